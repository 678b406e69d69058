import { randomUUID } from "node:crypto";
import type { OwnedEvent, RowJson } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { type Snapshot, sees } from "../postgres/snapshot.ts";
import { patched } from "./row-json.ts";
import type { ChunkPlan, ChunkRows, TableFound } from "./table-reader.ts";

/** Changes kept for a chunk while it is read, as text. Past it the stream waits for the chunk. */
export const MAX_EARLY_CHARS = 8 * 1024 * 1024;

/** A change of the table, and the key that its row had before. */
export interface KeyedChange {
  readonly event: OwnedEvent;
  readonly oldKey: RowJson | null;
}

/**
 * Rows that were read, or are being read, and wait for their mark in the stream. What the stream brings before the mark and the read did not
 * see is newer than they are: such rows are left out, for the stream has brought them.
 */
export class OpenChunk {
  readonly id = randomUUID();
  readonly plan: ChunkPlan;
  readonly #mustSee: Set<number>;
  #snapshot: Snapshot | null = null;
  #schema: TableSchema | null = null;
  #rows: Map<RowJson, RowJson> | null = null;
  #last: RowJson | null = null;
  #complete = false;
  /** While the snapshot or the rows are not known yet. */
  #early: KeyedChange[] = [];
  #earlyChars = 0;
  #seenTxId = -1;
  #seen = false;
  /** The key of the last row that was read; null when none was. */
  get last(): RowJson | null {
    return this.#last;
  }
  /** No row comes after it. */
  get complete(): boolean {
    return this.#complete;
  }
  get schema(): TableSchema | null {
    return this.#schema;
  }
  get earlyChars(): number {
    return this.#earlyChars;
  }

  /** @param mustSee transactions that were delivered before: what they changed is in no list of ours any more */
  constructor(plan: ChunkPlan, mustSee: readonly number[]) {
    this.plan = plan;
    this.#mustSee = new Set(mustSee);
  }

  /** False when the snapshot does not see all that it must. */
  found({ snapshot, schema }: TableFound): boolean {
    for (const txId of this.#mustSee) if (!sees(snapshot, txId)) return false;
    this.#snapshot = snapshot;
    this.#schema = schema;
    const early = this.#early;
    this.#early = [];
    this.#earlyChars = 0;
    for (const change of early) this.change(change);
    return true;
  }

  read({ rows, last }: ChunkRows): void {
    this.#rows = new Map();
    for (const [key, row] of rows) if (key !== null) this.#rows.set(key, row);
    this.#last = rows.at(-1)?.[0] ?? null;
    this.#complete = last;
    const early = this.#early;
    this.#early = [];
    this.#earlyChars = 0;
    for (const change of early) this.change(change);
  }

  /** Of the stream, in its order, up to the mark. */
  change(change: KeyedChange): void {
    const { event } = change;
    if (this.#snapshot !== null && this.#sees(this.#snapshot, event.transaction.txId)) return;
    if (this.#rows === null) {
      this.#early.push(change);
      this.#earlyChars += (event.after?.length ?? 0) + (event.before?.length ?? 0) + (event.key?.length ?? 0);
      if (this.#snapshot === null && this.#earlyChars > MAX_EARLY_CHARS / 2) this.#forgetEarly();
      return;
    }
    this.#apply(this.#rows, change);
  }

  /** The table may be locked for long, and the stream must go on: the snapshot, once there is one, must see these. */
  #forgetEarly(): void {
    for (const { event } of this.#early) this.#mustSee.add(event.transaction.txId);
    this.#early = [];
    this.#earlyChars = 0;
  }

  #apply(rows: Map<RowJson, RowJson>, { event: { op, key, after }, oldKey }: KeyedChange): void {
    if (op === "t") rows.clear();
    if (key === null) return;
    if (op === "u" && key === oldKey && after !== null) {
      const row = rows.get(key);
      // What the update did not send is what the row that was read has: nobody else can bring it.
      const whole = row === undefined ? null : patched(row, after);
      if (whole !== null) {
        rows.set(key, whole);
        return;
      }
    }
    if (oldKey !== null) rows.delete(oldKey);
    rows.delete(key);
  }

  #sees(snapshot: Snapshot, txId: number): boolean {
    if (txId !== this.#seenTxId) {
      this.#seenTxId = txId;
      this.#seen = sees(snapshot, txId);
    }
    return this.#seen;
  }

  /** What is left of it, in the order it was read. */
  rows(): ReadonlyMap<RowJson, RowJson> {
    return this.#rows ?? new Map();
  }
}
