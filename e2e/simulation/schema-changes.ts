import type { TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import type { MainDb, WalItem } from "./main-db.ts";
import type { Random } from "./random.ts";
import {
  COUNT,
  firstSchema,
  HIDDEN,
  ID,
  isHidden,
  isKeyed,
  type Row,
  type Rows,
  renamed,
  type TableForm,
  TEXT,
  withColumns,
  withKey,
} from "./tables.ts";

export interface SchemaChangeOptions {
  /** Tables get other columns and names. */
  readonly alters: boolean;
  /** Tables may be rewritten past the WAL, or leave CDC_TABLES for a while: cdc copies them again then. */
  readonly copies: boolean;
  /** One transaction in so many is one. */
  readonly oneIn: number;
  /** Tables leave and come back more often than anything else happens to them. */
  readonly restless: boolean;
  /** Tables lose their key, and get it again. */
  readonly keys: boolean;
  /** Tables are made and renamed more often, and take each other's names. */
  readonly crowded: boolean;
  readonly form: TableForm;
}

const MAX_TABLES = 4;

type Change = (oid: number) => readonly WalItem[];

/** Schema changes by chance, each a transaction of its own. */
export class SchemaChanges {
  readonly #mainDb: MainDb;
  readonly #random: Random;
  readonly #crowded: boolean;
  readonly #form: TableForm;
  readonly #kinds: readonly Change[];
  /** How many there were: in names, so that each is new. */
  count = 0;

  constructor(mainDb: MainDb, random: Random, { alters, copies, restless, keys, crowded, form }: SchemaChangeOptions) {
    this.#crowded = crowded;
    this.#form = form;
    this.#mainDb = mainDb;
    this.#random = random;
    const altering: readonly Change[] = [
      (oid) => this.#addsColumn(oid),
      (oid) => this.#renamesColumn(oid),
      (oid) => this.#dropsColumn(oid),
      ...Array<Change>(crowded ? 3 : 1).fill((oid) => this.#renames(oid)),
      ...(keys ? [(oid: number) => this.#losesOrGetsKey(oid)] : []),
    ];
    const making: readonly Change[] = [
      (oid) => this.#drops(oid),
      ...Array<Change>(crowded ? 3 : 1).fill(() => this.#makes(this.#freeName())),
      (oid) => this.#makesAnew(oid),
    ];
    const leavesOrReturns: Change = (oid) => this.#leavesOrReturns(oid);
    const copying: readonly Change[] = [(oid) => this.#rewrites(oid), ...Array(restless ? 9 : 1).fill(leavesOrReturns)];
    this.#kinds = [...(alters ? altering : []), ...making, ...(alters && copies ? copying : [])];
  }

  /** Empty where this one cannot be now. */
  next(): readonly WalItem[] {
    const oid = this.#random.pick([...this.#mainDb.tables.keys()]);
    if (!this.#mainDb.canLock(oid)) return [];
    const items = this.#random.pick(this.#kinds)(oid);
    if (items.length > 0) this.count++;
    return items;
  }

  #table(oid: number): { readonly schema: TableSchema; readonly rows: Rows } {
    return this.#mainDb.tables.get(oid) as { schema: TableSchema; rows: Rows };
  }

  #addsColumn(oid: number): readonly WalItem[] {
    const { schema } = this.#table(oid);
    const attnum = Math.max(...schema.columns.map((column) => column.attnum), TEXT + this.count) + 1;
    return becomes(withColumns(schema, [...schema.columns, columnSchema(`c${attnum}`, "text", { attnum })]));
  }

  #renamesColumn(oid: number): readonly WalItem[] {
    const { schema } = this.#table(oid);
    const target = this.#random.pick(schema.columns).attnum;
    if (this.#form.keeps.has(target)) return [];
    const named = schema.columns.map((column) =>
      column.attnum === target ? { ...column, name: `${column.name}_${this.count}` } : column,
    );
    const key = schema.key.map((name) => named[schema.columns.findIndex((column) => column.name === name)]?.name ?? name);
    return becomes(withColumns({ ...schema, key }, named));
  }

  #dropsColumn(oid: number): readonly WalItem[] {
    const { schema } = this.#table(oid);
    const dropped = schema.columns.filter(({ attnum }) => attnum !== ID && attnum !== TEXT).at(-1)?.attnum;
    if (dropped === undefined || this.#form.keeps.has(dropped)) return [];
    return becomes(
      withColumns(
        schema,
        schema.columns.filter(({ attnum }) => attnum !== dropped),
      ),
    );
  }

  #renames(oid: number): readonly WalItem[] {
    const { schema } = this.#table(oid);
    if (isHidden(schema)) return [];
    const name = this.#random.chance(this.#crowded ? 0.9 : 0.3)
      ? this.#freeName()
      : `${schema.table.replace(/_.*/, "")}_${this.count}`;
    return becomes(renamed(schema, name));
  }

  /** REPLICA IDENTITY FULL with the one, DEFAULT with the other, or main-db would refuse updates. */
  #losesOrGetsKey(oid: number): readonly WalItem[] {
    const { schema, rows } = this.#table(oid);
    const ids = rows.all.map((row) => row.get(ID) ?? null);
    if (!isKeyed(schema) && (ids.includes(null) || new Set(ids).size < ids.length)) return [];
    return becomes(withKey(schema, !isKeyed(schema), this.#form.isFull));
  }

  #drops(oid: number): readonly WalItem[] {
    return this.#mainDb.tables.size > 1 ? [{ kind: "gone", oid }] : [];
  }

  #makes(table: string): readonly WalItem[] {
    if (this.#mainDb.tables.size >= MAX_TABLES) return [];
    return becomes(this.#newSchema(table));
  }

  #makesAnew(oid: number): readonly WalItem[] {
    const { table } = this.#table(oid).schema;
    return [{ kind: "gone", oid }, ...becomes(this.#newSchema(table))];
  }

  #newSchema(table: string): TableSchema {
    const oid = this.#mainDb.newOid();
    return firstSchema(table, oid, this.#random.chance(0.75) || !this.#form.mayLackKey, this.#form.isFull);
  }

  #rewrites(oid: number): readonly WalItem[] {
    const { schema, rows } = this.#table(oid);
    const rewritten = rows.all.map(
      (row): Row =>
        new Map([...row].map(([attnum, value]) => [attnum, attnum === COUNT && value !== null ? Number(value) + 1_000 : value])),
    );
    return [{ kind: "schema", schema, rewritten }];
  }

  #leavesOrReturns(oid: number): readonly WalItem[] {
    const { schema } = this.#table(oid);
    return becomes(renamed(schema, isHidden(schema) ? `back_${this.count}` : `${HIDDEN}${this.count}`));
  }

  /** That a table had before, maybe. */
  #freeName(): string {
    const taken = new Set([...this.#mainDb.tables.values()].map(({ schema }) => schema.table));
    const names = ["t0", "t1", "t2"];
    const free = (this.#crowded ? names : [...names, `t${this.count}`]).filter((name) => !taken.has(name));
    return this.#random.pick(free.length > 0 ? free : [`new_${this.count}`]);
  }
}

const becomes = (schema: TableSchema): readonly WalItem[] => [{ kind: "schema", schema, rewritten: null }];
