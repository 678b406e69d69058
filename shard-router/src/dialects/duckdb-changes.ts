import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { conversionOf } from "../types/conversions.ts";
import { type ChangedColumns, type ColumnChange, changedColumns, type TableChangeOptions } from "./changed-columns.ts";
import { duckdbDialect } from "./duckdb.ts";
import { convertedValue } from "./duckdb-conversions.ts";
import { nameIn, schemaOf } from "./duckdb-names.ts";
import { keptIndex, rebuild } from "./duckdb-rebuild.ts";
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
  /** Names of its PRIMARY KEY's columns; empty when it has none. */
  readonly primaryKey: readonly string[];
  /** Foreign keys of its own, or of others that point at it. */
  readonly hasForeignKeys: boolean;
  readonly isEmpty: boolean;
  /** Folded names of columns in which some row has NULL, of those that shall have none. */
  readonly withNulls: ReadonlySet<string>;
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

export interface DuckdbChange {
  /** In one transaction, in which nothing else is done. */
  readonly statements: readonly string[];
  /** The new key's values, from the table as it is; null where there is none, no row has any, or they are not all known. */
  readonly keyValues: readonly string[] | null;
  /** Columns whose values are not known for certain to be what main-db's became; not empty: nothing may be run. */
  readonly unknown: readonly string[];
  /** What of the user's own would be lost; not empty: nothing may be run. */
  readonly lost: readonly string[];
}

/** A column of the table to be, and where its values come from. */
export interface Target {
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

export function duckdbChange(given: ChangedTable, options: TableChangeOptions): DuckdbChange {
  const { from, to, steps, rewritten, empties } = options;
  const table = { ...given, isEmpty: given.isEmpty || empties };
  const changed = changedColumns(from, to, steps);
  const targets = targetsOf(table, changed, options);
  const unknown = targets.filter(({ value, was, isKey }) => value === null && (isKey || (was !== null && !rewritten)));
  const dropped = new Set(changed.dropped.map(foldAscii));
  const names = new Map(targets.flatMap(({ was, name }) => (was === null ? [] : [[foldAscii(was), name] as const])));
  const kept = table.indexes.flatMap((index) => keptIndex(index, names, dropped));
  const altered = empties ? null : alters(table, { targets, dropped, changed }, options);
  return {
    statements: altered ?? rebuild(table, { targets, kept, changed }, options),
    keyValues: table.isEmpty ? null : keyValuesOf(targets, changed),
    unknown: table.isEmpty ? [] : unknown.map(({ name }) => name),
    lost:
      altered === null
        ? [
            ...kept.filter(({ columns }) => columns === null).map(({ name }) => `the index ${quote(name)} of expressions`),
            ...(table.hasForeignKeys ? ["foreign keys of it or that point at it"] : []),
          ]
        : [],
  };
}

function keyValuesOf(targets: readonly Target[], { newKey }: ChangedColumns): readonly string[] | null {
  if (newKey === null) return null;
  // Columns of the replica's own among them: somebody may have added one of the key's already.
  const values = new Map(targets.map(({ name, value }) => [foldAscii(name), value]));
  const found = newKey.flatMap((name) => values.get(foldAscii(name)) ?? []);
  return found.length === newKey.length ? found : null;
}

function targetsOf(table: ChangedTable, changed: ChangedColumns, { from, to, unfit }: TableChangeOptions): readonly Target[] {
  const found = new Map(table.columns.map((column) => [foldAscii(column.name), column]));
  const made = new Map(duckdbDialect.columnsOf(to).map(({ name, type }) => [name, type]));
  const madeBefore = new Map(duckdbDialect.columnsOf(from).map(({ type }, at) => [from.columns[at]?.attnum, type]));
  const taken = new Set(changed.dropped.map(foldAscii));
  const targets: Target[] = [];
  for (const change of changed.columns) {
    const { column } = change;
    const type = made.get(column.name) ?? "VARCHAR";
    const there = change.added === null ? (found.get(foldAscii(change.oldName)) ?? found.get(foldAscii(column.name))) : undefined;
    if (there !== undefined) {
      taken.add(foldAscii(there.name));
      targets.push(changedTarget(change, there, { table, changed, unfit, type, oldType: madeBefore.get(column.attnum) ?? "" }));
    } else if (change.added !== null) targets.push(addedTarget(change, change.added.existing, { table, to, type }));
  }
  const own = table.columns.filter(({ name }) => !taken.has(foldAscii(name)));
  // One that somebody has added already.
  const isThere = (target: Target) => target.was === null && own.some(({ name }) => foldAscii(name) === foldAscii(target.name));
  return [
    ...targets.filter((target) => !isThere(target)),
    ...own.map((column) => ({ ...column, was: column.name, value: quote(column.name), isKey: false })),
  ];
}

interface Adding {
  readonly table: ChangedTable;
  readonly to: TableSchema;
  /** Of the column that Cascade makes. */
  readonly type: string;
}

function addedTarget({ column, inKey }: ColumnChange, existing: WireValue, { table, to, type }: Adding): Target {
  const notNull = inKey || (!column.nullable && (existing !== null || table.isEmpty));
  const value = existing === null ? null : literalOf(to, column, type, existing);
  return { name: column.name, type, notNull, default: null, was: null, value, isKey: inKey };
}

interface Changing {
  readonly table: ChangedTable;
  readonly changed: ChangedColumns;
  readonly unfit: boolean;
  /** Of the column that Cascade makes, and would have made before. */
  readonly type: string;
  readonly oldType: string;
}

function changedTarget(change: ColumnChange, there: ChangedColumn, { table, changed, unfit, type, oldType }: Changing): Target {
  const { column, inKey, nullability } = change;
  const conversion = change.oldType === null ? "kept" : unfit ? null : conversionOf(change.oldType, column);
  const isDone = there.type === type && there.type !== oldType; // by somebody who was told to
  const isOwn = isDone || (there.type !== oldType && conversion === "kept" && duckdbHolds(column, there.type));
  const wanted = change.oldType === null || isOwn ? there.type : type;
  const converted = { value: quote(there.name), has: there.type, wanted, column };
  const value = isDone ? converted.value : conversion === null ? null : convertedValue(conversion, converted);
  const hasNulls = !table.isEmpty && (value === null || table.withNulls.has(foldAscii(there.name)));
  const notNull =
    nullability === null ? there.notNull && (value !== null || table.isEmpty) : nullability === "set-not-null" && !hasNulls;
  return {
    name: column.name,
    type: wanted,
    notNull: notNull || (inKey && changed.newKey !== null),
    default: there.default,
    was: there.name,
    value,
    isKey: inKey,
  };
}

function literalOf(to: TableSchema, column: ColumnSchema, type: string, given: WireValue): string {
  const { encode, value } = structField({ source: to, sqlName: "" }, column, type);
  const encoded = encode === null ? given : encode(given);
  return `CAST(${value(`'${String(encoded).replaceAll("'", "''")}'`)} AS ${type})`;
}

interface Altering {
  readonly targets: readonly Target[];
  /** Folded names. */
  readonly dropped: ReadonlySet<string>;
  readonly changed: ChangedColumns;
}

/** Only what DuckDB does in its catalog alone; the rest it refuses, or cannot do beside others in one transaction. */
function alters(
  table: ChangedTable,
  { targets, dropped, changed }: Altering,
  options: TableChangeOptions,
): readonly string[] | null {
  const { sqlName } = options;
  const there = new Map(table.columns.map((column) => [column.name, column]));
  const old = targets.filter(({ was }) => was !== null);
  const added = targets.filter(({ was }) => was === null);
  const gone = table.columns.filter(({ name }) => dropped.has(foldAscii(name)));
  const renamed = old.filter(({ was, name }) => was !== name);
  const freed = old.filter(({ was, notNull }) => there.get(was ?? "")?.notNull === true && !notNull);
  const bound = old.filter(({ was, notNull }) => there.get(was ?? "")?.notNull === false && notNull);
  const isSame = ({ was, value, type }: Target): boolean => value === quote(was ?? "") && there.get(was ?? "")?.type === type;
  const isSimple = added.every(({ value, notNull }) => value === null && !notNull) && old.every(isSame);
  const sameName = sqlName === table.sqlName;
  if (!isSimple || changed.dropsKey || changed.newKey !== null || schemaOf(sqlName) !== schemaOf(table.sqlName)) return null;
  const onlyAdds = gone.length + renamed.length + freed.length + bound.length === 0 && sameName;
  if (!onlyAdds && (table.indexes.length > 0 || table.hasForeignKeys)) return null;
  if (gone.length > 0 && table.uniques.length > 0) return null;
  const lastKey = Math.max(-1, ...table.primaryKey.map((key) => table.columns.findIndex(({ name }) => name === key)));
  if (gone.some((column) => table.columns.indexOf(column) <= lastKey)) return null;
  const steps = [
    ...gone.map(({ name }) => `DROP COLUMN ${quote(name)}`),
    ...renames(renamed, old),
    ...added.map(({ name, type }) => `ADD COLUMN ${quote(name)} ${type}`),
    ...freed.map(({ name }) => `ALTER COLUMN ${quote(name)} DROP NOT NULL`),
    ...bound.map(({ name }) => `ALTER COLUMN ${quote(name)} SET NOT NULL`),
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
