import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { type Conversion, conversionOf } from "../types/conversions.ts";
import { sameKey } from "./changed-keys.ts";
import { floatText } from "./float-text.ts";
import { foldName, type MysqlDialect, quoteMysql } from "./mysql.ts";
import { convertedValue } from "./mysql-conversions.ts";
import { mysqlHolds } from "./mysql-fit.ts";
import { parseMysqlType } from "./mysql-types.ts";

/** A table's change as MySQL and MariaDB make it; pure. */

/** A column of the replica's table, as far as a change needs to know it. */
export interface ChangedColumn {
  readonly name: string;
  /** COLUMN_TYPE. */
  readonly type: string;
  readonly nullable: boolean;
  readonly comment: string;
  readonly charset: string | null;
  readonly collation: string | null;
}

/** The replica's table before the change. */
export interface ChangedTable {
  readonly sqlName: string;
  readonly columns: readonly ChangedColumn[];
  /** Name of the unique index on exactly the key; null when there is none. */
  readonly keyIndex: string | null;
  readonly isEmpty: boolean;
}

export interface MysqlChangeOptions {
  readonly dialect: MysqlDialect;
  readonly from: TableSchema;
  readonly to: TableSchema;
  /** What rows from before a column was added have in it, by attnum. */
  readonly existing: ReadonlyMap<number, WireValue>;
  /** Every row is copied again: values that nobody can convert may be missing until then. */
  readonly rewritten: boolean;
  /** The table's name afterwards, quoted. */
  readonly sqlName: string;
  /** Kept as the table's comment: says afterwards that the change was made. */
  readonly mark: string;
}

export interface MysqlChange {
  /** Before, and again if need be: rows go that no key is known of; columns come that compute new values. */
  readonly first: readonly string[];
  /** All the rest at once: it happens or it does not. */
  readonly alter: string;
  /** Defaults that only the older rows needed. May be run again. */
  readonly last: readonly string[];
  /** Columns, by their new names, whose values are not known for certain to be what main-db's became; not empty: nothing may be run. */
  readonly unknown: readonly string[];
}

/** Takes its name from nothing of the user's: a column that computes another one's new values. */
export const computedName = (attnum: number): string => `cascade ${attnum}`;

export function mysqlChange(table: ChangedTable, options: MysqlChangeOptions): MysqlChange {
  const { from, to, dialect } = options;
  const made = dialect.columnsOf(to);
  const madeBefore = new Map(dialect.columnsOf(from).map(({ type }, index) => [from.columns[index]?.attnum, type]));
  const before = new Map(from.columns.map((column) => [column.attnum, column]));
  const found = new Map(table.columns.map((column) => [foldName(column.name), column]));
  const change: Draft = { empties: false, first: [], clauses: [], last: [], unknown: [] };
  const kept = new Set(to.columns.map(({ attnum }) => attnum));
  for (const { attnum, name } of from.columns)
    if (!kept.has(attnum) && found.has(foldName(name))) change.clauses.push(`DROP COLUMN ${quoteMysql(name)}`);
  for (const [index, column] of to.columns.entries()) {
    const old = before.get(column.attnum);
    const there = old === undefined ? undefined : found.get(foldName(old.name));
    const type = made[index]?.type ?? "";
    if (old === undefined || there === undefined) addColumn(change, { column, type, table }, options);
    else changeColumn(change, { old, column, there, type, oldType: madeBefore.get(old.attnum) ?? "" }, { table, options });
  }
  if (!sameKey(from, to)) change.clauses.push(...keyClauses(table, to));
  if (options.sqlName !== table.sqlName) change.clauses.push(`RENAME TO ${options.sqlName}`);
  change.clauses.push(`COMMENT = ${mysqlText(options.mark)}`);
  return {
    first: [
      ...(change.empties && !table.isEmpty ? [`TRUNCATE TABLE ${table.sqlName}`] : []),
      ...(change.first.length === 0 ? [] : [`ALTER TABLE ${table.sqlName} ${change.first.join(", ")}`]),
    ],
    alter: `ALTER TABLE ${table.sqlName} ${change.clauses.join(", ")}`,
    last: change.last.length === 0 ? [] : [`ALTER TABLE ${options.sqlName} ${change.last.join(", ")}`],
    unknown: change.unknown,
  };
}

interface Draft {
  /** A column of the key is made anew: no row has a key until the copy brings it. */
  empties: boolean;
  readonly first: string[];
  readonly clauses: string[];
  readonly last: string[];
  readonly unknown: string[];
}

interface Added {
  readonly column: ColumnSchema;
  /** Of the column that Cascade would make. */
  readonly type: string;
  readonly table: ChangedTable;
}

/** NOT NULL without a default would put the server's own idea of one into the rows that are there. */
function addColumn(change: Draft, { column, type, table }: Added, { to, existing, rewritten }: MysqlChangeOptions): void {
  const name = quoteMysql(column.name);
  const value = existing.get(column.attnum) ?? null;
  if (value !== null) {
    const null_ = column.nullable && !inKey(to, column) ? " NULL" : " NOT NULL";
    change.clauses.push(`ADD COLUMN ${name} ${type}${null_} DEFAULT (${literalOf(column, type, value)})`);
    change.last.push(`ALTER COLUMN ${name} DROP DEFAULT`);
    return;
  }
  if (inKey(to, column)) {
    change.empties = true;
    if (!table.isEmpty && !rewritten) change.unknown.push(column.name);
  }
  const isNull = !inKey(to, column) && (column.nullable || !table.isEmpty);
  change.clauses.push(`ADD COLUMN ${name} ${type}${isNull ? " NULL" : " NOT NULL"}`);
}

interface Changed {
  readonly old: ColumnSchema;
  readonly column: ColumnSchema;
  readonly there: ChangedColumn;
  /** Of the columns that Cascade would make, and would have made. */
  readonly type: string;
  readonly oldType: string;
}

function changeColumn(
  change: Draft,
  changed: Changed,
  { table, options }: { readonly table: ChangedTable; readonly options: MysqlChangeOptions },
): void {
  const { old, column, there, type } = changed;
  const { from, to, rewritten } = options;
  const [name, newName] = [quoteMysql(there.name), quoteMysql(column.name)];
  const null_ = column.nullable && !inKey(to, column) ? " NULL" : " NOT NULL";
  const comment = there.comment === "" ? "" : ` COMMENT ${mysqlText(there.comment)}`;
  const conversion = conversionOf(old, column);
  if (staysAsItIs(changed, from, to, conversion)) {
    if ((null_ === " NULL") !== there.nullable && old.nullable !== column.nullable)
      change.clauses.push(`CHANGE COLUMN ${name} ${newName} ${declaredType(there)}${null_}${comment}`);
    else if (there.name !== column.name) change.clauses.push(`RENAME COLUMN ${name} TO ${newName}`);
    return;
  }
  const value =
    conversion === null
      ? null
      : convertedValue(conversion, { value: name, old, column, has: parseMysqlType(there.type), wanted: parseMysqlType(type) });
  if (value === null) {
    change.clauses.push(`DROP COLUMN ${name}`);
    if (!rewritten && !table.isEmpty) change.unknown.push(column.name);
    addColumn(change, { column, type, table }, { ...options, rewritten: true, existing: new Map() });
  } else if (value === "as it is") {
    change.clauses.push(`CHANGE COLUMN ${name} ${newName} ${type}${null_}${comment}`);
  } else {
    const computed = quoteMysql(computedName(column.attnum));
    if (!table.columns.some((other) => other.name === computedName(column.attnum)))
      change.first.push(`ADD COLUMN ${computed} ${type} AS (${value}) STORED`);
    change.clauses.push(`DROP COLUMN ${name}`, `CHANGE COLUMN ${computed} ${newName} ${type}${null_}${comment}`);
  }
}

const inKey = ({ key }: TableSchema, { name }: ColumnSchema): boolean => key.includes(name);

/** The user's own column, which takes the new type's values too, and writes them as it wrote the old ones; or nothing changes at all. */
function staysAsItIs(
  { old, column, there, type, oldType }: Changed,
  from: TableSchema,
  to: TableSchema,
  conversion: Conversion | null,
): boolean {
  const has = parseMysqlType(there.type);
  if (sameType(there, type)) return conversion === "kept" || (conversion === "boolean-to-number" && has.kind === "integer");
  // All columns of a key share its bytes.
  const staysInKey = inKey(to, column) && inKey(from, old) && sameKey(from, to);
  if (sameType(there, oldType) || !mysqlHolds(to, column, has) || (inKey(to, column) && !staysInKey)) return false;
  return conversion === "kept" || (/^utc/.test(conversion ?? "") && has.kind === "datetime");
}

function sameType(there: ChangedColumn, type: string): boolean {
  const [has, wanted] = [parseMysqlType(there.type), parseMysqlType(type)];
  const base = (text: string) => (text === "boolean" ? "tinyint" : text);
  if (base(has.base) !== base(wanted.base) || has.unsigned !== wanted.unsigned) return false;
  if (has.kind === "integer") return true; // 10.11 shows a display width, which says nothing
  const collation = / COLLATE (\S+)/.exec(type)?.[1] ?? null;
  return has.size.join() === wanted.size.join() && (collation === null || collation === there.collation);
}

const declaredType = ({ type, charset, collation }: ChangedColumn): string =>
  collation === null ? type : `${type} CHARACTER SET ${charset} COLLATE ${collation}`;

function keyClauses({ keyIndex }: ChangedTable, { key }: TableSchema): readonly string[] {
  const drop = keyIndex === null ? [] : [keyIndex === "PRIMARY" ? "DROP PRIMARY KEY" : `DROP INDEX ${quoteMysql(keyIndex)}`];
  return key.length === 0 ? drop : [...drop, `ADD PRIMARY KEY (${key.map(quoteMysql).join(", ")})`];
}

/** Backslashes escape, in our session's sql_mode. */
export const mysqlText = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;

/** A wire value as a literal of the column that Cascade makes. */
function literalOf({ typeOid }: ColumnSchema, type: string, value: WireValue): string {
  const { kind } = parseMysqlType(type);
  if (kind === "bytes") return `X'${Buffer.from(String(value), "base64").toString("hex")}'`;
  if (kind === "integer") return value === true ? "1" : value === false ? "0" : String(value);
  if (typeof value === "number" && (typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8))
    return mysqlText(floatText(value, typeOid));
  return kind === "decimal" ? String(value) : mysqlText(String(value));
}
