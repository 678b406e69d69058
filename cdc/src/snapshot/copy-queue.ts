import type { Copies, Copy } from "./copies.ts";
import { type CopyJob, INITIAL } from "./copy-job.ts";
import type { CopyTable } from "./table-reader.ts";

/** A copy mostly waits: for its mark in the stream, for Kafka. Of small tables, which hold little, so many are under way at once. */
const MAX_UNDER_WAY = 16;
const SMALL_BYTES = 128 * 1024;

/** Which copy is begun next. */
export class CopyQueue {
  readonly #copies: Pick<Copies, "all">;
  readonly #sizes = new Map<number, CopyTable>();
  /** Of copies that are no more nothing is kept: one that is refused is begun anew every few seconds, as another. */
  readonly #notBefore = new WeakMap<Copy, number>();
  readonly #underWay = new Set<CopyJob>();
  #isLargeUnderWay = false;

  constructor(copies: Pick<Copies, "all">) {
    this.#copies = copies;
  }

  get isIdle(): boolean {
    return this.#underWay.size === 0;
  }

  size(table: CopyTable): void {
    this.#sizes.set(table.schema.oid, table);
  }

  /** Not before `delayMs` have passed. */
  later(copy: Copy, delayMs: number): void {
    this.#notBefore.set(copy, performance.now() + delayMs);
  }

  /** Null when none may be begun before another has ended, or its time has come. */
  next(mayBegin: (copy: Copy) => boolean = () => true): Copy | null {
    if (this.#isLargeUnderWay || this.#underWay.size >= MAX_UNDER_WAY) return null;
    const first = this.#first(mayBegin);
    return first !== null && (this.isIdle || this.#isSmall(first)) ? first : null;
  }

  /** Returns what ends it. */
  begin(copy: Copy): () => void {
    const isLarge = !this.#isSmall(copy);
    this.#underWay.add(copy.job);
    this.#isLargeUnderWay = isLarge;
    return () => {
      this.#underWay.delete(copy.job);
      if (isLarge) this.#isLargeUnderWay = false;
    };
  }

  /** Requests before tables that nobody waits for, the smallest first. */
  #first(mayBegin: (copy: Copy) => boolean): Copy | null {
    const now = performance.now();
    const tables = new Set([...this.#underWay].map(({ oid }) => oid));
    let first: Copy | null = null;
    for (const copy of this.#copies.all) {
      if ((this.#notBefore.get(copy) ?? 0) > now || tables.has(copy.job.oid) || this.#waitsForAnother(copy)) continue;
      if (!mayBegin(copy)) continue;
      if (copy.job.request !== INITIAL) return copy;
      if (first === null || this.#bytes(copy) < this.#bytes(first)) first = copy;
    }
    return first;
  }

  #bytes({ job }: Copy): number {
    return this.#sizes.get(job.oid)?.bytes ?? 0;
  }

  #isSmall({ kind, job }: Copy): boolean {
    return kind === "keyed" && (this.#sizes.get(job.oid)?.bytes ?? Number.POSITIVE_INFINITY) <= SMALL_BYTES;
  }

  /**
   * A table without a key is on no replica before its first copy: changes that another one holds meanwhile would come to replicas that have
   * none of its rows. Nor is it on those whose copy has begun, by a former life or before main-db refused it.
   */
  #waitsForAnother({ kind, job, state }: Copy): boolean {
    if (kind !== "keyless" || job.request === INITIAL) return false;
    const others = this.#copies.all.filter((other) => other.job.oid === job.oid && other.job !== job);
    if (others.some((other) => other.job.request === INITIAL)) return true;
    return !state.begun && others.some((other) => other.state.begun);
  }
}
