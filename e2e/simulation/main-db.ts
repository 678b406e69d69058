import type { Snapshot } from "@cascade/cdc/src/postgres/snapshot.ts";
import { sees } from "@cascade/cdc/src/postgres/snapshot.ts";
import { HEARTBEAT_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { comparePositions, type Lsn, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { Session } from "./main-db-session.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { type Row, type RowChange, Rows } from "./tables.ts";

export interface SchemaChange {
  readonly kind: "schema";
  readonly schema: TableSchema;
  /** The rows as they were written anew, past the WAL; null when they were not. */
  readonly rewritten: readonly Row[] | null;
}

export interface Mark {
  readonly kind: "mark";
  readonly prefix: string;
  readonly content: string;
}

/** The table is dropped. */
export interface TableGone {
  readonly kind: "gone";
  readonly oid: number;
}

export type WalItem = RowChange | SchemaChange | TableGone | Mark;

export interface Transaction {
  readonly txId: number;
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly committedAtMs: number;
  readonly items: readonly WalItem[];
}

/** Who streams from the slot. */
export interface SlotHolder {
  readonly host: Host;
  readonly session: Session;
  /** The connection is gone. */
  broken(): void;
  /** The WAL has grown. */
  wake(): void;
}

/** Where the slot begins: below it there is nothing. */
const FIRST_LSN = 1_000n;

/** main-db: its tables, its WAL, which transactions can be seen, and one slot. */
export class MainDb {
  readonly wal: Transaction[] = [];
  readonly tables = new Map<number, { schema: TableSchema; rows: Rows; readonly readBy: Set<Host> }>();
  /** Of dropped ones too. */
  readonly #first = new Map<number, { readonly schema: TableSchema; readonly rows: readonly Row[] }>();
  readonly #renamed = new Set<number>();
  readonly #scheduler: Scheduler;
  #lsn: Lsn = FIRST_LSN;
  #nextTxId = 700;
  /** Begun, or committed and not yet seen by others. */
  readonly #unseen = new Set<number>();
  #nextOid = 16_400;
  readonly systemId = "7000000000000000001";
  slot: { confirmed: Lsn; flushed: Lsn; holder: SlotHolder | null; isLost: boolean } | null = null;
  /** Who may read the slot. */
  lock: Session | null = null;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  newOid(): number {
    return this.#nextOid++;
  }

  /** A table that is there before anything is captured. */
  create(schema: TableSchema, rows: readonly Row[]): void {
    this.tables.set(schema.oid, { schema, rows: new Rows(rows), readBy: new Set() });
    this.#first.set(schema.oid, { schema, rows });
  }

  /** Where the last transaction ends that has more than a heartbeat. */
  get lastChangeLsn(): Lsn {
    const isHeartbeat = (item: WalItem) => item.kind === "mark" && item.prefix === HEARTBEAT_PREFIX;
    return this.wal.findLast(({ items }) => !items.every(isHeartbeat))?.endLsn ?? FIRST_LSN;
  }

  get endLsn(): Lsn {
    return this.wal.at(-1)?.endLsn ?? FIRST_LSN;
  }

  /** So far the WAL was written, whatever of it a slot tells. */
  get writtenLsn(): Lsn {
    return this.#lsn;
  }

  /** Making one writes WAL: it begins beyond all that was there. */
  createSlot(): void {
    this.#lsn += 56n;
    this.slot = { confirmed: this.#lsn, flushed: this.#lsn, holder: null, isLost: false };
  }

  /** By somebody else than cdc, whoever reads it. */
  loseSlot(how: "dropped" | "invalid" | "advanced" | "made anew"): void {
    const { slot } = this;
    const holder = slot?.holder;
    if (slot !== null) slot.holder = null;
    if (how === "dropped") this.slot = null;
    else if (how === "made anew") this.createSlot();
    else if (slot !== null && how === "invalid") slot.isLost = true;
    else if (slot !== null) slot.confirmed = slot.flushed = this.#lsn;
    holder?.broken();
  }

  /** WAL that nobody reads. */
  push(bytes: bigint): void {
    this.#lsn += bytes;
  }

  /** Its connections are closed, the one that streams among them. */
  end(session: Session): void {
    session.ended = true;
    if (this.lock === session) this.lock = null;
    const holder = this.slot?.holder;
    if (holder?.session !== session || this.slot === null) return;
    this.slot.holder = null;
    holder.broken();
  }

  begin(): number {
    const txId = this.#nextTxId++;
    this.#unseen.add(txId);
    return txId;
  }

  /** In the WAL at once; others see it `unseenForMs` later. */
  commit(txId: number, items: readonly WalItem[], unseenForMs: number): void {
    const commitLsn = this.#lsn + BigInt(this.#scheduler.random.between(1, 90));
    this.#lsn = commitLsn + 10n;
    for (const item of items) this.#carryOut(item);
    this.wal.push({ txId, commitLsn, endLsn: this.#lsn, committedAtMs: Date.now(), items });
    this.#scheduler.after(unseenForMs, null, () => void this.#unseen.delete(txId));
    if (unseenForMs === 0) this.#unseen.delete(txId);
    this.slot?.holder?.wake();
  }

  /** False once main-db was restarted: then it is rolled back. */
  isUnderWay(txId: number): boolean {
    return this.#unseen.has(txId);
  }

  #carryOut(item: WalItem): void {
    switch (item.kind) {
      case "mark":
        return;
      case "gone":
        this.tables.delete(item.oid);
        return;
      case "row":
        this.#table(item.schema.oid).rows.apply(item);
        return;
      case "schema":
        this.#alter(item);
    }
  }

  /** A table that is not there is made. */
  #alter({ schema, rewritten }: SchemaChange): void {
    const table = this.tables.get(schema.oid);
    if (table === undefined) {
      this.create(schema, []);
      return;
    }
    if (table.schema.table !== schema.table) this.#renamed.add(schema.oid);
    table.schema = schema;
    if (rewritten !== null) table.rows = new Rows(rewritten);
  }

  #table(oid: number) {
    const table = this.tables.get(oid);
    if (table === undefined) throw new Error(`no table ${oid}`);
    return table;
  }

  /** Rows that a transaction which nobody sees yet has written, and may still be locked. */
  unseenChanges(oid: number): readonly RowChange[] {
    return this.wal
      .filter(({ txId }) => this.#unseen.has(txId))
      .flatMap(({ items }) => items.filter((item): item is RowChange => item.kind === "row" && item.schema.oid === oid));
  }

  /** Whether nobody reads or writes the table. */
  canLock(oid: number): boolean {
    const { readBy } = this.#table(oid);
    for (const host of readBy) if (!host.alive) readBy.delete(host);
    return readBy.size === 0 && this.unseenChanges(oid).length === 0;
  }

  snapshot(): Snapshot {
    return { end: BigInt(this.#nextTxId), underWay: new Set([...this.#unseen].map(BigInt)) };
  }

  /** What a reader with the snapshot finds. */
  rowsSeen(oid: number, snapshot: Snapshot): readonly Row[] {
    return this.#replay(oid, ({ txId }) => sees(snapshot, txId));
  }

  /** The table after everything up to and including `position`. */
  rowsAt(oid: number, position: Position): readonly Row[] {
    return this.#replay(oid, ({ commitLsn }, ordinal) => comparePositions({ commitLsn, ordinal }, position) <= 0);
  }

  #replay(oid: number, includes: (transaction: Transaction, ordinal: number) => boolean): readonly Row[] {
    let rows = new Rows(this.#first.get(oid)?.rows);
    for (const transaction of this.wal) {
      transaction.items.forEach((item, ordinal) => {
        if (item.kind === "mark" || item.kind === "gone" || item.schema.oid !== oid || !includes(transaction, ordinal)) return;
        if (item.kind === "row") rows.apply(item);
        else if (item.rewritten !== null) rows = new Rows(item.rewritten);
      });
    }
    return rows.all;
  }

  schemaAt(oid: number, position: Position): TableSchema {
    let schema = this.#first.get(oid)?.schema as TableSchema;
    for (const { commitLsn, items } of this.wal)
      items.forEach((item, ordinal) => {
        if (item.kind === "schema" && item.schema.oid === oid && comparePositions({ commitLsn, ordinal }, position) <= 0)
          schema = item.schema;
      });
    return schema;
  }

  /** Whether the table ever had another name. */
  wasRenamed(oid: number): boolean {
    return this.#renamed.has(oid);
  }

  /** What the slot's state on disk is now and then brought to. */
  checkpoint(): void {
    if (this.slot !== null) this.slot.flushed = this.slot.confirmed;
  }

  /** Every connection is gone; what the slot was told since the last checkpoint may be. */
  restart(): void {
    if (this.slot !== null) {
      this.slot.confirmed = this.slot.flushed;
      this.slot.holder?.broken();
      this.slot.holder = null;
    }
    if (this.lock !== null) this.end(this.lock);
    this.#unseen.clear();
    for (const { readBy } of this.tables.values()) readBy.clear();
  }
}
