import type { MainDb, WalItem } from "./main-db.ts";
import type { Scheduler } from "./scheduler.ts";
import { type SchemaChangeOptions, SchemaChanges } from "./schema-changes.ts";
import { ID, isKeyed, MAX_ID, type Row, type RowChange, Rows, TEXT, textOf, type Value } from "./tables.ts";

/** Whoever waits for no standby is seen a moment after he is in the WAL; cdc counts on less than a second. */
const LONGEST_UNSEEN_MS = 900;
const NOTHING: ReadonlySet<number> = new Set();

export interface WorkloadOptions {
  readonly transactions: number;
  /** Schema changes among them; null: none. */
  readonly ddl: SchemaChangeOptions | null;
  readonly pauseMs: number;
  /** A row may get another key without telling all of its columns. */
  readonly movesPartially: boolean;
  /** Everything that main-db starts with is announced: a schema change before that is the catalog's to find. */
  readonly isAnnounced: () => boolean;
}

/** Transactions on main-db, by chance. */
export class Workload {
  readonly #mainDb: MainDb;
  readonly #scheduler: Scheduler;
  readonly #options: WorkloadOptions;
  #begun = 0;
  #underWay = 0;
  #value = 0;
  readonly #changes: SchemaChanges | null;
  committed = 0;

  constructor(mainDb: MainDb, scheduler: Scheduler, options: WorkloadOptions) {
    this.#mainDb = mainDb;
    this.#scheduler = scheduler;
    this.#options = options;
    this.#changes = options.ddl === null ? null : new SchemaChanges(mainDb, scheduler.random, options.ddl);
    this.#next();
  }

  get schemaChanges(): number {
    return this.#changes?.count ?? 0;
  }

  get isOver(): boolean {
    return this.#begun >= this.#options.transactions && this.#underWay === 0;
  }

  #next(): void {
    const { random } = this.#scheduler;
    this.#scheduler.after(random.skewed(1, this.#options.pauseMs), null, () => {
      if (this.#begun >= this.#options.transactions) return;
      this.#begun++;
      this.#underWay++;
      const txId = this.#mainDb.begin();
      this.#scheduler.after(random.skewed(0, 400), null, () => this.#commit(txId));
      this.#next();
    });
  }

  #commit(txId: number): void {
    const { random } = this.#scheduler;
    this.#underWay--;
    // main-db was restarted meanwhile: rolled back.
    if (!this.#mainDb.isUnderWay(txId)) return;
    const mayAlter = this.#changes !== null && random.chance(1 / (this.#options.ddl?.oneIn ?? 1)) && this.#options.isAnnounced();
    const ddl = mayAlter ? (this.#changes?.next() ?? []) : [];
    const items: WalItem[] = [...ddl];
    if (!mayAlter) for (let left = random.between(1, 5); left > 0; left--) this.#change(items);
    if (items.length > 0) this.committed++;
    // Who holds a table to himself is seen before anybody gets it.
    const isExclusive = ddl.length > 0 || items.some((item) => item.kind === "row" && item.op === "t");
    this.#mainDb.commit(txId, items, isExclusive ? 0 : random.skewed(0, LONGEST_UNSEEN_MS));
  }

  /** One more change of the transaction, of rows that nobody else has in hand. */
  #change(items: WalItem[]): void {
    const { random } = this.#scheduler;
    const oid = random.pick([...this.#mainDb.tables.keys()]);
    const { schema, rows: committed } = this.#mainDb.tables.get(oid) as { schema: RowChange["schema"]; rows: Rows };
    const rows = new Rows(committed.all);
    for (const item of items) if (item.kind === "row" && item.schema.oid === oid) rows.apply(item);
    const unseen = this.#mainDb.unseenChanges(oid);
    const identity = (row: Row) => (isKeyed(schema) ? String(row.get(ID)) : textOf(row));
    const locked = new Set(unseen.flatMap(({ before, after }) => [before, after].flatMap((row) => (row ? [identity(row)] : []))));
    const free = rows.all.filter((row) => !locked.has(identity(row)));
    const add = (change: Omit<RowChange, "kind" | "schema" | "unsent">, unsent = NOTHING): void => {
      items.push({ kind: "row", schema, unsent, ...change });
    };
    if (random.chance(0.02) && this.#mainDb.canLock(oid)) {
      add({ op: "t", before: null, after: null });
      return;
    }
    const taken = new Set([...rows.all.map((row) => row.get(ID)), ...[...locked].map(Number)]);
    const ids = Array.from({ length: MAX_ID }, (_, at) => at + 1).filter((id) => !isKeyed(schema) || !taken.has(id));
    const before = free.length > 0 ? random.pick(free) : null;
    if (before === null || random.chance(0.4)) {
      if (ids.length > 0) add({ op: "c", before: null, after: this.#row(schema, random.pick(ids)) });
      return;
    }
    if (random.chance(0.3)) {
      add({ op: "d", before, after: null });
      return;
    }
    const movesTo = random.chance(0.15) && ids.length > 0 ? random.pick(ids) : before.get(ID);
    const hasText = before.get(TEXT) != null && schema.columns.some(({ attnum }) => attnum === TEXT);
    const isPartial = random.chance(0.4) && hasText && (movesTo === before.get(ID) || this.#options.movesPartially);
    const after = new Map([
      ...this.#row(schema, Number(movesTo)),
      ...(isPartial ? [[TEXT, before.get(TEXT)] as [number, Value]] : []),
    ]);
    add({ op: "u", before, after }, isPartial ? new Set([TEXT]) : NOTHING);
  }

  #row({ columns }: RowChange["schema"], id: number): Row {
    const { random } = this.#scheduler;
    const value = ({ attnum, type }: { readonly attnum: number; readonly type: string }): Value => {
      if (attnum === ID) return id;
      if (random.chance(0.15)) return null;
      const number = ++this.#value;
      return type === "integer" ? number : `v${number}`;
    };
    return new Map(columns.map((column) => [column.attnum, value(column)]));
  }
}
