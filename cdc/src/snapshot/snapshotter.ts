import { CascadeError } from "@cascade/shared/errors";
import { pause } from "@cascade/shared/retry";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { ChangeSource } from "../change-source.ts";
import { Copies, type Copy } from "./copies.ts";
import { type CopyJob, type CopyState, INITIAL, isOurOwn, REWRITTEN, TABLE_GONE, WAITING, WHOLE } from "./copy-job.ts";
import type { KeyedCopy } from "./keyed-copy.ts";
import { KeylessCopy } from "./keyless-copy.ts";
import { MergedSource } from "./merged-source.ts";
import { Notifier } from "./notifier.ts";
import type { SnapshotReport } from "./report.ts";
import type { SignalLog } from "./signal-log.ts";
import { StateWriter } from "./state-writer.ts";
import type { ChunkPlan, CopyTable, TableFound, TableReader } from "./table-reader.ts";
import { untilOver } from "./until-over.ts";

/** Between two tries of what main-db does not show yet. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 250;
/** A copy that main-db refuses is tried again after this long. */
const TRY_AGAIN_MS = 10_000;

const PRUNE_INTERVAL_MS = 5_000;

export interface SnapshotterOptions {
  readonly openReader: () => Promise<TableReader>;
  readonly log: SignalLog;
  readonly report: SnapshotReport;
  /** CDC_SNAPSHOT=initial: a table that was never copied is. */
  readonly initial: boolean;
}

/** Copies tables one after the other, beside the stream. One for each life. */
export class Snapshotter {
  readonly #options: SnapshotterOptions;
  readonly #copies: Copies;
  readonly #writer: StateWriter;
  readonly #changed = new Notifier();
  readonly #failed = Promise.withResolvers<never>();
  #source: MergedSource | null = null;
  /** Tables whose initial copy is done, or under way. */
  readonly #met = new Set<number>();
  /** Rewritten tables that were not found by the name they had: renamed meanwhile, or gone. */
  readonly #sought = new Set<number>();
  readonly #sizes = new Map<number, CopyTable>();
  readonly #notBefore = new Map<Copy, number>();
  /** Copies of tables whose changes were not looked at from the beginning of the life. */
  readonly #unsettled = new Set<CopyJob>();

  constructor(options: SnapshotterOptions) {
    this.#options = options;
    this.#copies = new Copies(
      (schema) => this.meet(schema, null),
      (schema) => this.#copyAgain(schema),
    );
    this.#writer = new StateWriter(options.log, (error) => this.#failed.reject(error));
    this.#failed.promise.catch(() => undefined); // `run` says it
  }

  get copies(): Copies {
    return this.#copies;
  }

  /** A table that is captured: copied when it never was. */
  meet(schema: TableSchema, size: CopyTable | null): void {
    if (size !== null) this.#sizes.set(schema.oid, size);
    if (this.#sought.delete(schema.oid)) this.#copyAgain(schema);
    if (!this.#options.initial || this.#met.has(schema.oid)) return;
    const job: CopyJob = { request: INITIAL, oid: schema.oid, name: nameOf(schema), replica: null, range: WHOLE };
    this.add(job, { ...WAITING, estimatedRows: size?.estimatedRows ?? null }, schema);
  }

  /** A schema change has given the rows that were there values that no WAL tells of: a copy under way begins anew. */
  #copyAgain({ oid, schema, table, key }: TableSchema): Copy {
    const underWay = this.#copies.all.find(({ job }) => job.oid === oid && isOurOwn(job));
    if (underWay !== undefined) this.#copies.remove(underWay);
    const job = { request: REWRITTEN, oid, replica: null, range: WHOLE, ...underWay?.job, name: { schema, table } };
    return this.add(job, { ...WAITING, estimatedRows: this.#sizes.get(oid)?.estimatedRows ?? null }, { key });
  }

  /** Not begun anew meanwhile. */
  #isCurrent(copy: Copy): boolean {
    return this.#copies.all.includes(copy);
  }

  /** A table whose initial copy is done. */
  know(oid: number): void {
    this.#met.add(oid);
  }

  add(job: CopyJob, state: CopyState, schema: Pick<TableSchema, "key">): Copy {
    if (job.request === INITIAL) this.#met.add(job.oid);
    const copy = this.#copies.add(job, state, schema);
    this.#unsettled.add(job);
    this.#options.report.waiting(copy);
    this.#notify();
    return copy;
  }

  save(copies: readonly Copy[]): Promise<void> {
    return this.#writer.save(...copies);
  }

  merged(source: ChangeSource): ChangeSource {
    this.#source = new MergedSource(source, this.#copies, this.#writer, () => this.#onPublished());
    return this.#source;
  }

  #onPublished(): void {
    if (this.#copies.all.length === 0) return;
    for (const copy of this.#copies.all) {
      if (copy.kind !== "keyed" || !copy.published()) continue;
      this.#options.report.progress(copy);
      void this.#writer.save(copy);
    }
    this.#notify();
  }

  #notify(): void {
    this.#changed.notify();
    this.#source?.notify();
  }

  /** Resolves when `signal` aborts; rejects with a CascadeError. */
  async run(signal: AbortSignal): Promise<void> {
    const wake = () => this.#notify();
    signal.addEventListener("abort", wake);
    try {
      await Promise.race([this.#run(signal), this.#failed.promise]);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if (this.#copies.all.length === 0) await this.#changed.wait();
      else await this.#copyAll(signal);
    }
  }

  /** With sessions of its own, for as long as there is something to copy. */
  async #copyAll(signal: AbortSignal): Promise<void> {
    await using reader = await this.#options.openReader();
    // Whatever it is waiting for: a lock may take for ever.
    const close = () => void reader[Symbol.asyncDispose]();
    signal.addEventListener("abort", close, { once: true });
    // A table that is locked for long is not looked at, and the list of what a look must see would grow.
    const pruning = setInterval(() => {
      reader.snapshot().then(
        (snapshot) => this.#copies.saw(snapshot),
        () => undefined, // whoever reads says it
      );
    }, PRUNE_INTERVAL_MS);
    try {
      while (this.#copies.all.length > 0 && !signal.aborted) {
        if (this.#unsettled.size > 0) await this.#settle(reader, signal);
        const copy = this.#nextCopy();
        if (copy === null) await this.#changed.wait();
        else await this.#copyOne(reader, copy, signal);
      }
    } finally {
      clearInterval(pruning);
      signal.removeEventListener("abort", close);
    }
  }

  /** Requests before tables that nobody waits for, the smallest first. */
  #nextCopy(): Copy | null {
    const size = ({ job }: Copy) => this.#sizes.get(job.oid)?.bytes ?? 0;
    const now = performance.now();
    const ready = this.#copies.all.filter((copy) => (this.#notBefore.get(copy) ?? 0) <= now);
    return ready.find(({ job }) => !isOurOwn(job)) ?? ready.toSorted((a, b) => size(a) - size(b))[0] ?? null;
  }

  async #copyOne(reader: TableReader, copy: Copy, signal: AbortSignal): Promise<void> {
    this.#options.report.begins(copy);
    try {
      if (copy.kind === "keyed") await this.#copyKeyed(reader, copy, signal);
      else await this.#copyKeyless(reader, copy, signal);
    } catch (error) {
      if (!(error instanceof CascadeError) || error.verdict !== "stop-table") throw error;
      await this.#refused(copy, error);
    }
  }

  async #refused(copy: Copy, error: CascadeError): Promise<void> {
    const { code, message, advice } = error;
    copy.set({ error: { code, message, advice } });
    this.#options.report.refused(copy, error);
    if (!isOurOwn(copy.job)) return this.#end(copy, "failed");
    this.#notBefore.set(copy, performance.now() + TRY_AGAIN_MS);
    setTimeout(() => this.#notify(), TRY_AGAIN_MS + 1).unref();
    if (copy.kind === "keyed") copy.giveUpAll();
    await this.save([copy]);
  }

  async #end(copy: Copy, status: "done" | "failed"): Promise<void> {
    const { request, oid } = copy.job;
    // Begun anew under the same name.
    if (this.#copies.all.some((other) => other !== copy && other.job.request === request && other.job.oid === oid)) return;
    copy.set({ status });
    // Before anything else comes from the stream: it would not be looked at any more.
    this.#copies.remove(copy);
    await this.save([copy]);
    this.#source?.confirmWanted();
    this.#options.report.ended(copy);
    this.#notify();
  }

  /** The table is gone, or captured no more. */
  async #gone(copy: Copy): Promise<void> {
    if (isOurOwn(copy.job)) {
      this.#copies.remove(copy);
      if (copy.job.request === INITIAL) this.#met.delete(copy.job.oid);
      else this.#sought.add(copy.job.oid);
      this.#options.report.ended(copy);
      return this.#notify();
    }
    copy.set({ error: TABLE_GONE });
    await this.#end(copy, "failed");
  }

  async #copyKeyed(reader: TableReader, copy: KeyedCopy, signal: AbortSignal): Promise<void> {
    if (copy.job.replica !== null && !copy.isBegun) await reader.mark({ id: copy.beginId, ...copy.job.name });
    while (!signal.aborted && this.#isCurrent(copy)) {
      const plan = copy.next();
      if (plan === "done") return this.#end(copy, "done");
      if (plan === null) await this.#changed.wait();
      else {
        const read = await this.#readChunk(reader, copy, plan, signal);
        if (read === "gone") return this.#gone(copy);
        if (read === "keyless") return this.#becomes(copy, []);
      }
    }
  }

  async #readChunk(
    reader: TableReader,
    copy: KeyedCopy,
    plan: ChunkPlan,
    signal: AbortSignal,
  ): Promise<"gone" | "keyless" | null> {
    const chunk = copy.begin(plan, this.#copies.mustSee());
    let keyless = false;
    const found = (table: TableFound): boolean => {
      keyless = table.schema.key.length === 0;
      if (keyless || !copy.found(chunk, table)) return false;
      this.#copies.saw(table.snapshot);
      return true;
    };
    const read = await reader.chunk(copy.job.oid, plan, copy.job.range, found);
    if (read === "gone") return "gone";
    if (read === null) {
      copy.giveUp(chunk);
      this.#notify();
      await pause(FIRST_PAUSE_MS, signal);
      return keyless ? "keyless" : null;
    }
    copy.read(chunk, read);
    this.#source?.notify();
    const schema = copy.chunkMarked(chunk.id)?.schema ?? null;
    if (schema !== null) await reader.mark({ id: chunk.id, schema: schema.schema, table: schema.table });
    return null;
  }

  /** The table has lost its key, or got one, since it was met: its copy begins anew. */
  #becomes(copy: Copy, key: readonly string[]): void {
    this.#copies.remove(copy);
    this.#copies.add(copy.job, { ...WAITING, estimatedRows: copy.state.estimatedRows }, { key });
    this.#notify();
  }

  async #copyKeyless(reader: TableReader, waiting: KeylessCopy, signal: AbortSignal): Promise<void> {
    // A fresh one: it may have been tried before.
    const copy = new KeylessCopy(waiting.job, waiting.state);
    this.#copies.replace(waiting, copy);
    await reader.mark({ id: copy.markId, ...copy.job.name });
    while (!copy.isMarked && !copy.isLost && !signal.aborted && this.#isCurrent(copy)) await this.#changed.wait();
    if (!this.#isCurrent(copy)) return;
    if (copy.isLost) return this.#gone(copy);
    const source = this.#source;
    if (signal.aborted || source === null) return;
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      const mustSee = this.#copies.mustSee();
      let first = true;
      let key: readonly string[] = [];
      const found = (table: TableFound): boolean => {
        key = table.schema.key;
        return key.length === 0 && copy.found(table, mustSee);
      };
      const done = await reader.scan(copy.job.oid, found, async (rows) => {
        const events = copy.rows(rows, first);
        first = false;
        await source.offer(() => (this.#isCurrent(copy) ? events : []));
        this.#options.report.progress(copy);
      });
      if (!this.#isCurrent(copy)) return;
      if (done === "gone") return this.#gone(copy);
      if (done === "done") {
        // Of a table without rows too.
        await source.offer(() => [...(first ? copy.rows([], true) : []), ...this.#copies.release(copy)]);
        return this.#end(copy, "done");
      }
      if (key.length > 0) return this.#becomes(copy, key);
      if (copy.wasAltered) return this.#copyKeyless(reader, copy, signal);
      await pause(pauseMs, signal);
    }
  }

  /**
   * What was delivered before a copy was known, by this life or a former one, is in no list, and may not be visible yet: waits until what is
   * under way now is over. A longer transaction has not been delivered, and will be; but a commit that waits for a standby may have been.
   */
  async #settle(reader: TableReader, signal: AbortSignal): Promise<void> {
    const settled = [...this.#unsettled];
    await untilOver(reader, this.#options.report, signal);
    for (const job of settled) this.#unsettled.delete(job);
  }
}

const nameOf = ({ schema, table }: TableSchema) => ({ schema, table });
