import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { conversionOf } from "../types/conversions.ts";
import { sameKey } from "./changed-keys.ts";
import { duckdbDialect } from "./duckdb.ts";
import { convertedValue } from "./duckdb-conversions.ts";
import { duckdbHolds, structField } from "./duckdb-types.ts";
import { quote } from "./sql.ts";
import { foldAscii } from "./table-names.ts";

/** A table's change as DuckDB makes it: altered where that is no more than a note in the catalog, else made anew from itself; pure. */

/** The replica's table before the change. */
export interface ChangedTable {
  readonly sqlName: string;
  readonly columns: readonly ChangedColumn[];
  /** The user's own, and one on the key where that is no PRIMARY KEY. */
  readonly indexes: readonly ChangedIndex[];
  /** Column names of its UNIQUE constraints. */
  readonly uniques: readonly (readonly string[])[];
  readonly hasPrimaryKey: boolean;
  readonly isEmpty: boolean;
}

export interface ChangedColumn {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  /** SQL, null for none. */
  readonly default: string | null;
}

export interface ChangedIndex {
  readonly name: string;
  readonly isUnique: boolean;
  /** SQL: a column's name, quoted where it must be, or an expression in parentheses. */
  readonly parts: readonly string[];
}

export interface DuckdbChangeOptions {
  readonly from: TableSchema;
  readonly to: TableSchema;
  /** What rows from before a column was added have in it, by attnum. */
  readonly existing: ReadonlyMap<number, WireValue>;
  /** Every row is copied again: values that nobody can convert may be missing until then. */
  readonly rewritten: boolean;
  /** The table's name afterwards, qualified and quoted. */
  readonly sqlName: string;
}

export interface DuckdbChange {
  /** In one transaction, in which nothing else is done. */
  readonly statements: readonly string[];
  /** Columns whose values are not known for certain to be what main-db's became; not empty: nothing may be run. */
  readonly unknown: readonly string[];
  /** The user's own indexes that cannot be made again; not empty: nothing may be run. */
  readonly ownIndexes: readonly string[];
}

/** A column of the table to be, and where its values come from. */
interface Target {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly default: string | null;
  /** The column there is. */
  readonly was: string | null;
  /** SQL for its value; null for what no row has. */
  readonly value: string | null;
  readonly isKey: boolean;
}

export function duckdbChange(table: ChangedTable, options: DuckdbChangeOptions): DuckdbChange {
  const { from, to, rewritten } = options;
  const targets = targetsOf(table, options);
  const lost = targets.filter((target) => target.value === null && target.was !== null).map(({ name }) => name);
  const keyless = targets.filter((target) => target.value === null && target.isKey).map(({ name }) => name);
  const unknown = rewritten || table.isEmpty ? [] : [...new Set([...lost, ...keyless])];
  const gone = new Set(
    from.columns
      .filter(({ attnum }) => !to.columns.some((column) => column.attnum === attnum))
      .map(({ name }) => foldAscii(name)),
  );
  const names = new Map(targets.flatMap(({ was, name }) => (was === null ? [] : [[foldAscii(was), name] as const])));
  const kept = table.indexes.flatMap((index) => keptIndex(index, names, gone));
  const ownIndexes = kept.filter(({ columns }) => columns === null).map(({ name }) => name);
  const altered = alters(table, targets, gone, options);
  const statements = altered ?? rebuild(table, { targets, kept, empties: keyless.length > 0 }, options);
  return { statements, unknown, ownIndexes: altered === null ? ownIndexes : [] };
}

function targetsOf(table: ChangedTable, { from, to, existing }: DuckdbChangeOptions): readonly Target[] {
  const found = new Map(table.columns.map((column) => [foldAscii(column.name), column]));
  const before = new Map(from.columns.map((column) => [column.attnum, column]));
  const made = duckdbDialect.columnsOf(to);
  const madeBefore = new Map(duckdbDialect.columnsOf(from).map(({ type }, at) => [from.columns[at]?.attnum, type]));
  const targets = to.columns.map((column, at): Target => {
    const type = made[at]?.type ?? "VARCHAR";
    const isKey = to.key.includes(column.name);
    const old = before.get(column.attnum);
    const there = old === undefined ? undefined : found.get(foldAscii(old.name));
    const common = { name: column.name, isKey, default: null };
    if (old === undefined || there === undefined) {
      const given = existing.get(column.attnum) ?? null;
      const notNull = isKey || (!column.nullable && (given !== null || table.isEmpty));
      const value = given === null ? null : literalOf(to, column, type, given);
      return { ...common, type, was: null, value, notNull };
    }
    const conversion = conversionOf(old, column);
    const own = there.type !== madeBefore.get(old.attnum) && conversion === "kept" && duckdbHolds(column, there.type);
    const kept = own ? there.type : type;
    const value =
      conversion === null
        ? null
        : convertedValue(conversion, { value: quote(there.name), has: there.type, wanted: kept, column });
    const asItWas = there.notNull === !old.nullable || old.nullable !== column.nullable ? !column.nullable : there.notNull;
    return {
      ...common,
      default: there.default,
      type: kept,
      was: there.name,
      value,
      notNull: isKey || (asItWas && value !== null),
    };
  });
  const known = new Set(from.columns.map(({ name }) => foldAscii(name)));
  const own = table.columns.filter(({ name }) => !known.has(foldAscii(name)));
  return [...targets, ...own.map((column) => ({ ...column, was: column.name, value: quote(column.name), isKey: false }))];
}

function literalOf(to: TableSchema, column: ColumnSchema, type: string, given: WireValue): string {
  const { encode, value } = structField({ source: to, sqlName: "" }, column, type);
  const encoded = encode === null ? given : encode(given);
  return `CAST(${value(`'${String(encoded).replaceAll("'", "''")}'`)} AS ${type})`;
}

/** Only what DuckDB does in its catalog alone; the rest it refuses, or cannot do beside others in one transaction. */
function alters(
  table: ChangedTable,
  targets: readonly Target[],
  gone: ReadonlySet<string>,
  { from, to, sqlName }: DuckdbChangeOptions,
): readonly string[] | null {
  const there = new Map(table.columns.map((column) => [column.name, column]));
  const old = targets.filter(({ was }) => was !== null);
  const added = targets.filter(({ was }) => was === null);
  const adds = added.map(({ name, type }) => `ADD COLUMN ${quote(name)} ${type}`);
  const dropped = table.columns.filter(({ name }) => gone.has(foldAscii(name)));
  const renamed = old.filter(({ was, name }) => was !== name);
  const freed = old.filter(({ was, notNull }) => there.get(was ?? "")?.notNull === true && !notNull);
  const simple =
    sameKey(from, to) &&
    added.every(({ value, notNull }) => value === null && !notNull) &&
    old.every(({ was, value, type, notNull }) => {
      const column = there.get(was ?? "");
      return value === quote(was ?? "") && column?.type === type && (column.notNull || !notNull);
    });
  const sameName = sqlName === table.sqlName;
  if (!simple || schemaOf(sqlName) !== schemaOf(table.sqlName)) return null;
  const onlyAdds = dropped.length === 0 && renamed.length === 0 && freed.length === 0 && sameName;
  if (!onlyAdds && (table.indexes.length > 0 || table.uniques.length > 0)) return null;
  const lastKey = Math.max(
    -1,
    ...from.key.map((key) => table.columns.findIndex(({ name }) => foldAscii(name) === foldAscii(key))),
  );
  if (dropped.some((column) => table.columns.indexOf(column) < lastKey)) return null;
  const steps = [
    ...dropped.map(({ name }) => `DROP COLUMN ${quote(name)}`),
    ...renames(renamed, old),
    ...adds,
    ...freed.map(({ name }) => `ALTER COLUMN ${quote(name)} DROP NOT NULL`),
    ...(sameName ? [] : [`RENAME TO ${nameIn(sqlName)}`]),
  ];
  return steps.map((step) => `ALTER TABLE ${table.sqlName} ${step}`);
}

/** One after the other: by way of a name that nobody has where one is taken still. */
function renames(renamed: readonly Target[], old: readonly Target[]): readonly string[] {
  const taken = new Set(old.map(({ was }) => foldAscii(was ?? "")));
  const step = (from: string, to: string) => `RENAME COLUMN ${quote(from)} TO ${quote(to)}`;
  if (!renamed.some(({ name }) => taken.has(foldAscii(name)))) return renamed.map(({ was, name }) => step(was ?? "", name));
  const between = (at: number) => `cascade ${at}`;
  return [
    ...renamed.map(({ was }, at) => step(was ?? "", between(at))),
    ...renamed.map(({ name }, at) => step(between(at), name)),
  ];
}

interface KeptIndex {
  readonly name: string;
  readonly isUnique: boolean;
  /** null: of an expression, which may name a column that is renamed or changed. */
  readonly columns: readonly string[] | null;
}

/** An index goes with a column of its own, as on main-db. */
function keptIndex(
  { name, isUnique, parts }: ChangedIndex,
  names: ReadonlyMap<string, string>,
  gone: ReadonlySet<string>,
): readonly KeptIndex[] {
  const columns: string[] = [];
  for (const part of parts) {
    const column = foldAscii(part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part);
    if (gone.has(column)) return [];
    const now = names.get(column);
    if (now === undefined) return [{ name, isUnique, columns: null }];
    columns.push(now);
  }
  return [{ name, isUnique, columns }];
}

interface Rebuilding {
  readonly targets: readonly Target[];
  readonly kept: readonly KeptIndex[];
  /** No row has a key until the copy brings it. */
  readonly empties: boolean;
}

function rebuild(
  table: ChangedTable,
  { targets, kept, empties }: Rebuilding,
  { from, to, sqlName }: DuckdbChangeOptions,
): readonly string[] {
  const schema = schemaOf(sqlName);
  const made = `${schema}.${quote(`cascade ${to.oid}`)}`;
  const changedKey = !sameKey(from, to);
  const lines = targets.map(
    ({ name, type, notNull, default: given }) =>
      `${quote(name)} ${type}${given === null ? "" : ` DEFAULT ${given}`}${notNull ? " NOT NULL" : ""}`,
  );
  if (to.key.length > 0 && (changedKey || table.hasPrimaryKey)) lines.push(`PRIMARY KEY (${to.key.map(quote).join(", ")})`);
  const names = new Map(targets.flatMap(({ was, name }) => (was === null ? [] : [[was, name] as const])));
  for (const columns of table.uniques) {
    const now = columns.map((column) => names.get(column));
    if (now.every((name) => name !== undefined)) lines.push(`UNIQUE (${now.map(quote).join(", ")})`);
  }
  const filled = targets.filter(({ value }) => value !== null);
  const isOldKey = (columns: readonly string[]) =>
    changedKey &&
    sameNames(
      columns,
      from.key.map((name) => names.get(name) ?? name),
    );
  return [
    `CREATE SCHEMA IF NOT EXISTS ${schema}`,
    `CREATE TABLE ${made} (${lines.join(", ")})`,
    ...(empties || filled.length === 0
      ? []
      : [
          `INSERT INTO ${made} (${filled.map(({ name }) => quote(name)).join(", ")}) SELECT ${filled.map(({ value }) => value).join(", ")} FROM ${table.sqlName}`,
        ]),
    `DROP TABLE ${table.sqlName}`,
    `ALTER TABLE ${made} RENAME TO ${nameIn(sqlName)}`,
    ...kept.flatMap(({ name, isUnique, columns }) =>
      columns === null || (isUnique && isOldKey(columns))
        ? []
        : [`CREATE ${isUnique ? "UNIQUE " : ""}INDEX ${quote(name)} ON ${sqlName} (${columns.map(quote).join(", ")})`],
    ),
  ];
}

const sameNames = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name) => b.some((other) => foldAscii(other) === foldAscii(name)));

/** The name's last part. */
const nameIn = (sqlName: string): string => /"(?:[^"]|"")*"$/.exec(sqlName)?.[0] ?? sqlName;
const schemaOf = (sqlName: string): string => sqlName.slice(0, -(nameIn(sqlName).length + 1));
