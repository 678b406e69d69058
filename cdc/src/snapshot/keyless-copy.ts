import { randomUUID } from "node:crypto";
import { type ChangeEvent, type EventTable, withOwnRows } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { SourceMark, TableChanged, TableDropped, TableLeft } from "../change-source.ts";
import { type Snapshot, sees } from "../postgres/snapshot.ts";
import { type CopyJob, type CopyState, copiedTable, INITIAL } from "./copy-job.ts";
import { haveSameRows } from "./keyed-copy.ts";
import type { SnapshotRow, TableFound } from "./table-reader.ts";

/** What the stream tells of tables themselves. */
export type TableNews = TableChanged | TableLeft | TableDropped;

/** No replica has this name. */
const NOBODY = "";

/**
 * A table without a key: none of its rows can be told from another, so it is copied whole, as one snapshot sees it. From the mark on its
 * changes are held; once the copy is published, those that it does not contain follow. The stream may be behind the snapshot then, and
 * what it still brings of what the copy contains is for nobody.
 */
export class KeylessCopy {
  readonly kind = "keyless";
  readonly job: CopyJob;
  readonly markId = randomUUID();
  /** Of the mark written once the table was read: where it stands, the stream has brought all that the copy contains. */
  readonly endId = randomUUID();
  #state: CopyState;
  #mark: (SourceMark & { readonly table: EventTable }) | null = null;
  #schema: TableSchema | null = null;
  #isLost = false;
  #isGivenUp = false;
  /** Of the newest transaction of which something was kept back from everybody. */
  #keptBack: Lsn | null = null;
  #toldKeptBack: Lsn | null = null;
  #isOut = false;
  #isDurable = false;
  #isPassed = false;
  #wasAltered = false;
  #snapshot: Snapshot | null = null;
  #held: ChangeEvent[] = [];
  #heldChars = 0;
  #ordinal = 0;
  #without: { readonly of: EventTable; readonly table: EventTable } | null = null;

  constructor(job: CopyJob, state: CopyState) {
    this.job = job;
    this.#state = state;
  }

  get state(): CopyState {
    return this.#state;
  }

  /** Where another copy takes this one's place: what that one is to contain. */
  get contains(): Lsn | null {
    return this.#keptBack ?? this.#state.contains;
  }

  /** Makes what it keeps back from everybody part of its state. Returns whether that is to be written down: it may not have been yet. */
  tellKeptBack(): boolean {
    const { contains } = this;
    if (contains === null || contains === this.#toldKeptBack) return false;
    this.#state = { ...this.#state, contains };
    this.#toldKeptBack = contains;
    return true;
  }

  /** From its mark on. */
  afresh(): KeylessCopy {
    return new KeylessCopy(this.job, { ...this.#state, contains: this.contains });
  }

  get heldChars(): number {
    return this.#heldChars;
  }

  /**
   * What is held of an asked copy is nowhere else until it is durable: main-db must keep its WAL. An initial copy is made anew after a crash.
   * No longer than that: a poll brings the same again until it is confirmed, and the mark that ends the copy may stand behind it.
   */
  get holdsFrom(): Lsn | null {
    return this.job.request === INITIAL || this.#isDurable ? null : (this.#mark?.transaction.commitLsn ?? null);
  }

  /** What `out` has returned is. */
  durable(): void {
    this.#isDurable = true;
  }

  /** The mark is in the stream. */
  arrive(mark: SourceMark, schema: TableSchema | null): void {
    if (mark.table === null || schema?.oid !== this.job.oid) {
      this.#isLost = true;
      return;
    }
    this.#mark = { ...mark, table: mark.table };
    this.#schema = schema;
    this.#state = { ...this.#state, status: "copying" };
    if (this.job.request === INITIAL) this.#keptBack = mark.transaction.commitLsn;
  }

  /** The mark names another table where it stands, or none. */
  get isLost(): boolean {
    return this.#isLost;
  }

  markAgain(): void {
    this.#isLost = false;
  }

  /** Whether the table may be read: the snapshot sees all that was delivered before it was asked for, and the schema is the mark's. */
  found({ snapshot, schema }: TableFound, mustSee: readonly number[]): boolean {
    if (!mustSee.every((txId) => sees(snapshot, txId))) return false;
    if (this.#isGivenUp) return false;
    if (this.#schema === null || !haveSameRows(schema, this.#schema)) {
      this.#wasAltered = true;
      return false;
    }
    this.#snapshot = snapshot;
    this.#state = { ...this.#state, error: null };
    return true;
  }

  /** Where the stream has other rows of the table, or none. Returns what is to be published before that is told: the copy cannot be ended then. */
  altered(news: TableNews): readonly ChangeEvent[] {
    if (this.#schema === null || this.#isOut || this.#isGivenUp) return [];
    if (news.kind === "schema" && news.rewritten !== true && haveSameRows(news.schema, this.#schema)) return [];
    this.#wasAltered = true;
    return this.giveUp();
  }

  /** The table was altered between the mark and the end of the copy: another mark is needed. */
  get wasAltered(): boolean {
    return this.#wasAltered;
  }

  /** A change that the stream brings; returns what is to be published of it at once. */
  change(event: ChangeEvent): ChangeEvent | null {
    // Before the mark: the copy of a table that was never copied will contain it.
    if (this.#mark === null || this.#isGivenUp) return this.#withoutCopy(event);
    if (this.#isOut) return this.#sees(event) ? { ...event, table: this.#tableOfSeen(event) } : event;
    this.#hold(event);
    return null;
  }

  /** The table may have been emptied already: whoever it is for gets its rows by the copy alone. */
  #withoutCopy(event: ChangeEvent): ChangeEvent | null {
    const { request, replica } = this.job;
    if (request !== INITIAL && !this.#state.begun) return event;
    if (replica !== null) return { ...event, table: this.#withoutReplica(event.table) };
    this.#keptBack = event.transaction.commitLsn;
    return null;
  }

  #hold(event: ChangeEvent): void {
    if (this.job.request === INITIAL) this.#keptBack = event.transaction.commitLsn;
    const held = withOwnRows(event);
    this.#held.push(held);
    this.#heldChars += (held.before?.length ?? 0) + (held.after?.length ?? 0);
  }

  #sees({ transaction }: ChangeEvent): boolean {
    return this.#snapshot !== null && sees(this.#snapshot, transaction.txId);
  }

  #tableOfSeen({ table }: ChangeEvent): EventTable {
    return this.job.replica === null ? { ...table, replica: NOBODY } : this.#withoutReplica(table);
  }

  #withoutReplica(table: EventTable): EventTable {
    if (this.#without?.of !== table) {
      // Another one's copy may have begun as well.
      const others = table.notReplica?.split(",").filter((name) => name !== this.job.replica) ?? [];
      this.#without = { of: table, table: { ...table, notReplica: [...others, this.job.replica ?? ""].join() } };
    }
    return this.#without.table;
  }

  get isMarked(): boolean {
    return this.#mark !== null;
  }

  /** The first of them empty the table, so that a copy made again leaves no row twice. */
  rows(rows: readonly SnapshotRow[], first: boolean): readonly ChangeEvent[] {
    const before = first ? 0 : this.#state.rows;
    this.#state = { ...this.#state, rows: before + rows.length };
    const events = first ? [this.#event("t", null)] : [];
    for (const [, row] of rows) events.push(this.#event("r", row));
    return events;
  }

  #event(op: "t" | "r", after: string | null): ChangeEvent {
    const mark = this.#mark;
    if (mark === null) throw new TypeError("a copy without its mark");
    this.#table ??= copiedTable(mark.table, this.job);
    const { transaction, lsn } = mark;
    return { op, table: this.#table, transaction, ordinal: mark.ordinal + this.#ordinal++, lsn, key: null, before: null, after };
  }
  #table: EventTable | null = null;

  /**
   * It is over: by another that takes its place, or by none where nothing of it is out. From here on what comes is for those who can do without
   * a copy, as what was held is: that is returned.
   */
  giveUp(): readonly ChangeEvent[] {
    this.#isGivenUp = true;
    return this.#letGo().flatMap((event) => this.#withoutCopy(event) ?? []);
  }

  /**
   * The copy is out but for these, which it does not contain, at their own places. From here on changes go their way at once, and those that
   * it contains for nobody.
   */
  out(): readonly ChangeEvent[] {
    this.#isOut = true;
    const isFirst = this.job.request === INITIAL;
    this.#state = { ...this.#state, contains: isFirst ? (this.#mark?.transaction.commitLsn ?? null) : this.contains };
    const held = this.#letGo();
    const last = held.at(-1);
    return held.flatMap((event) => {
      if (!this.#sees(event)) return [event];
      // For nobody, the last one too: but every replica is past its place then, and takes none of those that the copy contains when the slot
      // tells them again.
      return this.job.replica === null && event !== last ? [] : [{ ...event, table: this.#tableOfSeen(event) }];
    });
  }

  #letGo(): readonly ChangeEvent[] {
    const held = this.#held;
    this.#held = [];
    this.#heldChars = 0;
    return held;
  }

  /** The stream has brought all that the copy contains. */
  get isPassed(): boolean {
    return this.#isPassed;
  }

  pass(): void {
    this.#isPassed = true;
  }

  set(change: Partial<CopyState>): void {
    this.#state = { ...this.#state, ...change };
  }
}
