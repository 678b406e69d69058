import { randomUUID } from "node:crypto";
import { type ChangeEvent, type RowJson, withOwnRows } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { SourceMark } from "../change-source.ts";
import { type CopyJob, type CopyState, copiedTable } from "./copy-job.ts";
import { OpenChunk } from "./open-chunk.ts";
import { keyIn, membersOf } from "./row-json.ts";
import type { ChunkPlan, ChunkRows, TableFound } from "./table-reader.ts";

/** Chunks that are read ahead, the one being read among them. */
const MAX_OPEN = 3;
const MAX_REREAD_KEYS = 1000;

/** A table with a key, copied by chunks in the key's order. Pure: told what is read and what the stream brings, it says what to publish. */
export class KeyedCopy {
  readonly kind = "keyed";
  readonly job: CopyJob;
  /** Of the mark where the replica that asked for it, or every one, empties its table. */
  readonly beginId = randomUUID();
  #beginArrived: boolean;
  #beginMarked = false;
  #state: CopyState;
  /** In the order they were begun, which is the order of their marks. */
  #open: OpenChunk[] = [];
  /** Where the next chunk begins. */
  #after: RowJson | null;
  #complete = false;
  readonly #reread: Set<RowJson>;
  #started: boolean;
  /** Arrived, and not known to be durable yet. */
  #arrived: { readonly chunk: OpenChunk; readonly rows: number }[] = [];

  constructor(job: CopyJob, state: CopyState) {
    this.job = job;
    this.#state = state;
    this.#after = state.after;
    this.#reread = new Set(state.reread);
    this.#started = state.after !== null;
    this.#beginArrived = state.begun;
  }

  /** What may be written down of it: all that is published. */
  get state(): CopyState {
    const chunks = [...this.#open, ...this.#arrived.map(({ chunk }) => chunk)];
    const reread = [...this.#reread, ...chunks.flatMap(({ plan }) => (plan.kind === "rows" ? plan.keys : []))];
    return { ...this.#state, reread };
  }

  /** The rows of whoever it is for may be missing: it has begun, or a former life may have begun it. */
  get mayBeEmpty(): boolean {
    return this.#beginArrived || this.#state.mayBeEmpty;
  }

  /** Its mark is to be written before anything is read. */
  get needsBegin(): boolean {
    return this.#awaitsBegin && !this.#beginMarked;
  }

  get #awaitsBegin(): boolean {
    return (this.job.replica !== null || this.#state.empties) && !this.#beginArrived;
  }

  beginMarked(): void {
    this.#beginMarked = true;
  }

  /** The truncate that begins the copy; null when the mark names another table where it stands, or none: it is to be written again. */
  arriveBegin(mark: SourceMark, schema: TableSchema | null): ChangeEvent | null {
    if (mark.table === null || schema?.oid !== this.job.oid) {
      this.#beginMarked = false;
      return null;
    }
    this.#beginArrived = true;
    const { transaction, ordinal, lsn } = mark;
    const table = copiedTable(mark.table, this.job);
    return { op: "t", table, transaction, ordinal, lsn, key: null, before: null, after: null };
  }

  /** What to read next; null: wait for what is open to come out. */
  next(): ChunkPlan | "done" | null {
    // Rows that the stream brings before the truncate are left out of a chunk that is open, and would be nowhere after it.
    if (this.#awaitsBegin || this.#open.length + this.#arrived.length >= MAX_OPEN) return null;
    if (this.#reread.size > 0) return { kind: "rows", keys: [...this.#reread].slice(0, MAX_REREAD_KEYS) };
    if (!this.#complete) return { kind: "range", after: this.#after };
    return this.#open.length + this.#arrived.length === 0 ? "done" : null;
  }

  begin(plan: ChunkPlan, mustSee: readonly number[]): OpenChunk {
    this.#started = true;
    const chunk = new OpenChunk(plan, mustSee);
    if (plan.kind === "rows") for (const key of plan.keys) this.#reread.delete(key);
    this.#open.push(chunk);
    return chunk;
  }

  /** Whether the chunk may be read: the snapshot sees what it must, and the key is what it was when the copy began. */
  found(chunk: OpenChunk, table: TableFound): boolean {
    const keyShape = keyShapeOf(table.schema);
    if (this.#state.keyShape !== keyShape && !this.#isAnew()) {
      this.#restart();
      return false;
    }
    this.#state = { ...this.#state, keyShape, status: "copying", error: null };
    return this.#open.includes(chunk) && chunk.found(table);
  }

  /** Nothing was read yet that depends on the key. */
  #isAnew(): boolean {
    return this.#after === null && this.#reread.size === 0 && this.#open.every(({ plan }) => plan.kind === "range");
  }

  read(chunk: OpenChunk, read: ChunkRows): void {
    if (!this.#open.includes(chunk)) return; // thrown away meanwhile
    chunk.read(read);
    if (chunk.plan.kind === "range") {
      this.#after = chunk.last ?? this.#after;
      this.#complete = chunk.complete;
      return;
    }
    if (read.last) return;
    const found = new Set(read.rows.map(([key]) => key));
    for (const key of chunk.plan.keys) if (!found.has(key)) this.#reread.add(key);
  }

  /** Not read, or thrown away: what it was to read is to be read again, and all that was read after it. */
  giveUp(chunk: OpenChunk): void {
    const at = this.#open.indexOf(chunk);
    if (at === -1) return;
    for (const { plan } of this.#open.splice(at).reverse()) {
      if (plan.kind === "rows") for (const key of plan.keys) this.#reread.add(key);
      else {
        this.#after = plan.after;
        this.#complete = false;
      }
    }
  }

  /** Nothing that is open comes out any more. */
  giveUpAll(): void {
    const [first] = this.#open;
    if (first !== undefined) this.giveUp(first);
  }

  #restart(): void {
    this.#open = [];
    this.#arrived = []; // up to where they were read is nothing to the new key
    this.#after = null;
    this.#complete = false;
    this.#reread.clear();
    this.#state = { ...this.#state, after: null, keyShape: null, rows: 0, reread: [] };
  }

  /** A change that the stream brings. True when a key is to be read again that was not before: not to be forgotten. */
  change(event: ChangeEvent, schema: TableSchema): boolean {
    if (!this.#started) return false;
    const owned = withOwnRows(event);
    const { op, key, before, after } = owned;
    const oldKey = op !== "u" || before === null || before === key ? key : (keyIn(before, schema.key) ?? key);
    for (const chunk of this.#open) chunk.change({ event: owned, oldKey });
    if (oldKey === key || key === null || after === null || membersOf(after).size >= schema.columns.length) return false;
    // Its row may not have been copied under its old key, and what the update did not send would never come.
    this.#reread.add(key);
    return true;
  }

  get earlyChars(): number {
    return this.#open.reduce((sum, chunk) => sum + chunk.earlyChars, 0);
  }

  chunkMarked(id: string): OpenChunk | null {
    return this.#open.find((chunk) => chunk.id === id) ?? null;
  }

  /** What is published where the mark stands; null when the table is not what the stream has there, and it is read again. */
  arrive(chunk: OpenChunk, mark: SourceMark, schema: TableSchema | null): readonly ChangeEvent[] | null {
    if (mark.table === null || schema === null || chunk.schema === null || !haveSameRows(schema, chunk.schema)) {
      this.giveUp(chunk);
      return null;
    }
    this.#open = this.#open.filter((other) => other !== chunk);
    const table = copiedTable(mark.table, this.job);
    const { transaction, lsn } = mark;
    const events: ChangeEvent[] = [];
    for (const [key, after] of chunk.rows()) {
      events.push({ op: "r", table, transaction, ordinal: mark.ordinal + events.length, lsn, key, before: null, after });
    }
    this.#arrived.push({ chunk, rows: events.length });
    return events;
  }

  /** What has arrived is durable. True when there was any. */
  published(): boolean {
    const begins = this.#beginArrived && !this.#state.begun;
    if (begins) this.#state = { ...this.#state, begun: true };
    if (this.#arrived.length === 0) return begins;
    for (const { chunk, rows } of this.#arrived) {
      const after = chunk.plan.kind === "range" ? (chunk.last ?? this.#state.after) : this.#state.after;
      this.#state = { ...this.#state, after, rows: this.#state.rows + rows };
    }
    this.#arrived = [];
    return true;
  }

  set(change: Partial<CopyState>): void {
    this.#state = { ...this.#state, ...change };
  }
}

/** Whether rows of one are rows of the other, whatever a type is called now and a default is. */
export const haveSameRows = (a: TableSchema, b: TableSchema): boolean => rowShapeOf(a) === rowShapeOf(b);

const rowShapeOf = ({ schema, table, oid, columns, key }: TableSchema): string =>
  JSON.stringify([schema, table, oid, key, columns.map(({ name, attnum, typeOid, typmod }) => [name, attnum, typeOid, typmod])]);

/** Another when keys of before cannot be compared with keys of now. */
const keyShapeOf = ({ columns, key }: TableSchema): string =>
  JSON.stringify(key.map((name) => [name, columns.find((column) => column.name === name)?.typeOid ?? 0]));
