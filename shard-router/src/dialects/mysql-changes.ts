import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { type Conversion, conversionOf } from "../types/conversions.ts";
import { type ChangedColumns, type ColumnChange, changedColumns, type TableChangeOptions } from "./changed-columns.ts";
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
  /** Name of the unique index on exactly the old key; null when there is none. */
  readonly keyIndex: string | null;
  /** It has a unique index on exactly the new key. */
  readonly hasNewKey: boolean;
  readonly isEmpty: boolean;
  /** Folded names of columns in which some row has NULL, of those that shall have none. */
  readonly withNulls: ReadonlySet<string>;
}

export interface MysqlChangeOptions extends TableChangeOptions {
  readonly dialect: MysqlDialect;
  /** The table's comment afterwards, which says that the change was made. */
  readonly comment: string;
}

export interface MysqlChange {
  /** Before, and again if need be: the rows go; columns come that compute new values. */
  readonly first: readonly string[];
  /** All the rest at once: it happens or it does not. null: there is nothing to do. */
  readonly alter: string | null;
  /**
   * After that, and by itself: MariaDB (10.11) leaves the old table behind, rows and all, where an ALTER TABLE that copies also renames
   * a table whose name its file cannot have, "a b" for one. null: it has its name.
   */
  readonly rename: string | null;
  /** Defaults that only the older rows needed go. May be run again. */
  readonly last: readonly string[];
  /** Columns, by their new names, whose values are not known for certain to be what main-db's became; not empty: nothing may be run. */
  readonly unknown: readonly string[];
  /** Rows that stay have NULLs in a column of the new key, or values that are not known. */
  readonly unfitKey: boolean;
}

/** Takes its name from nothing of the user's: a column that computes another one's new values. */
const computedName = (attnum: number): string => `cascade ${attnum}`;
/** Left by a change that came to no end. */
const COMPUTED = /^cascade \d+$/;

export function mysqlChange(table: ChangedTable, options: MysqlChangeOptions): MysqlChange {
  const { from, to, dialect, steps, empties, sqlName } = options;
  const changed = changedColumns(from, to, steps);
  const context: Context = {
    ...options,
    table,
    changed,
    isEmpty: table.isEmpty || empties,
    found: new Map(table.columns.map((column) => [foldName(column.name), column])),
    types: new Map(dialect.columnsOf(to).map(({ name, type }) => [name, type])),
    oldTypes: new Map(dialect.columnsOf(from).map(({ type }, at) => [from.columns[at]?.attnum ?? 0, type])),
  };
  const draft: Draft = { first: [], clauses: [], last: [], unknown: [] };
  for (const name of changed.dropped)
    if (context.found.has(foldName(name))) draft.clauses.push(`DROP COLUMN ${quoteMysql(name)}`);
  for (const change of changed.columns) {
    const there = context.found.get(foldName(change.oldName)) ?? context.found.get(foldName(change.column.name));
    if (change.added !== null) addColumn(draft, change, change.added.existing, context);
    else if (there !== undefined) changeColumn(draft, change, there, context);
  }
  draft.clauses.push(...keyClauses(table, changed));
  const rename = sqlName === table.sqlName ? null : renameText(table.sqlName, sqlName);
  const left = [...context.found.values()]
    .filter(({ name }) => COMPUTED.test(name))
    .map(({ name }) => `DROP COLUMN ${quoteMysql(name)}`);
  const first = [...left, ...draft.first];
  const isNothing = rename === null && draft.clauses.length === 0 && first.length === 0 && (!empties || table.isEmpty);
  return {
    first: [
      ...(empties && !table.isEmpty ? [`TRUNCATE TABLE ${table.sqlName}`] : []),
      // One after the other: a name goes, and may come again.
      ...first.map((clause) => `ALTER TABLE ${table.sqlName} ${clause}`),
    ],
    alter: isNothing
      ? null
      : `ALTER TABLE ${table.sqlName} ${[...draft.clauses, `COMMENT = ${mysqlText(options.comment)}`].join(", ")}`,
    rename,
    last: draft.last.length === 0 ? [] : [`ALTER TABLE ${sqlName} ${draft.last.join(", ")}`],
    unknown: draft.unknown,
    unfitKey:
      !context.isEmpty &&
      changed.newKey !== null &&
      changed.columns.some(
        ({ inKey, oldName, column, added }) =>
          inKey && (draft.unknown.includes(column.name) || (added === null && table.withNulls.has(foldName(oldName)))),
      ),
  };
}

export const renameText = (from: string, to: string): string => `RENAME TABLE ${from} TO ${to}`;

interface Draft {
  readonly first: string[];
  readonly clauses: string[];
  readonly last: string[];
  readonly unknown: string[];
}

interface Context extends MysqlChangeOptions {
  readonly table: ChangedTable;
  readonly changed: ChangedColumns;
  /** When the columns are changed. */
  readonly isEmpty: boolean;
  readonly found: ReadonlyMap<string, ChangedColumn>;
  /** Of the columns that Cascade makes, by name, and would have made, by attnum. */
  readonly types: ReadonlyMap<string, string>;
  readonly oldTypes: ReadonlyMap<number, string>;
}

/** NOT NULL without a default would put the server's own idea of one into the rows that are there. */
function addColumn(draft: Draft, { column, inKey }: ColumnChange, existing: WireValue, context: Context): void {
  const { types, isEmpty, found } = context;
  if (found.has(foldName(column.name)) && !isReplaced(context, column.name)) return; // somebody has added it
  const name = quoteMysql(column.name);
  const type = types.get(column.name) ?? "";
  if (existing !== null) {
    const nullable = column.nullable && !inKey ? "NULL" : "NOT NULL";
    draft.clauses.push(`ADD COLUMN ${name} ${type} ${nullable} DEFAULT (${literalOf(column, type, existing)})`);
    draft.last.push(`ALTER COLUMN ${name} DROP DEFAULT`);
    return;
  }
  const nullable = column.nullable || !isEmpty ? "NULL" : "NOT NULL";
  if (inKey && !isEmpty) draft.unknown.push(column.name);
  draft.clauses.push(`ADD COLUMN ${name} ${type} ${inKey ? "NOT NULL" : nullable}`);
}

/** The column that has the name goes, or gets another one. */
function isReplaced({ changed }: Context, name: string): boolean {
  const folded = foldName(name);
  return (
    changed.dropped.some((other) => foldName(other) === folded) ||
    changed.columns.some(({ column, oldName }) => column.name !== oldName && foldName(oldName) === folded)
  );
}

function changeColumn(draft: Draft, change: ColumnChange, there: ChangedColumn, context: Context): void {
  const { column, oldType, inKey } = change;
  const type = context.types.get(column.name) ?? "";
  const [name, newName] = [quoteMysql(there.name), quoteMysql(column.name)];
  const nullable = nullableAfter(change, there, context) ? " NULL" : " NOT NULL";
  const comment = there.comment === "" ? "" : ` COMMENT ${mysqlText(there.comment)}`;
  const conversion = oldType === null ? "kept" : context.unfit ? null : conversionOf(oldType, column);
  if (keepsType(change, there, conversion, context)) {
    if (nullable !== (there.nullable ? " NULL" : " NOT NULL"))
      draft.clauses.push(`CHANGE COLUMN ${name} ${newName} ${declaredType(there)}${nullable}${comment}`);
    else if (there.name !== column.name) draft.clauses.push(`RENAME COLUMN ${name} TO ${newName}`);
    return;
  }
  const [has, wanted] = [parseMysqlType(there.type), parseMysqlType(type)];
  const value =
    conversion === null ? null : convertedValue(conversion, { value: name, old: oldType ?? column, column, has, wanted });
  if (value === null) {
    if (!context.isEmpty && (!context.rewritten || inKey)) draft.unknown.push(column.name);
    const made = inKey || (context.isEmpty && !column.nullable) ? " NOT NULL" : " NULL";
    draft.clauses.push(`DROP COLUMN ${name}`, `ADD COLUMN ${newName} ${type}${made}${comment}`);
  } else if (value === "as it is") {
    draft.clauses.push(`CHANGE COLUMN ${name} ${newName} ${type}${nullable}${comment}`);
  } else {
    const computed = computedName(column.attnum);
    draft.first.push(`ADD COLUMN ${quoteMysql(computed)} ${type} AS (${value}) STORED`);
    // MySQL does not drop a column that another one is computed from, not even together with that.
    if (context.dialect.name === "mysql") draft.first.push(`MODIFY COLUMN ${quoteMysql(computed)} ${type}`);
    draft.clauses.push(`DROP COLUMN ${name}`, `CHANGE COLUMN ${quoteMysql(computed)} ${newName} ${type}${nullable}${comment}`);
  }
}

function nullableAfter({ nullability, oldName, inKey }: ColumnChange, there: ChangedColumn, context: Context): boolean {
  if (inKey && context.changed.newKey !== null) return false;
  if (nullability === null) return there.nullable;
  return nullability === "set-nullable" || (!context.isEmpty && context.table.withNulls.has(foldName(oldName)));
}

/** The user's own column, which takes the new type's values too, and writes them as it wrote the old ones; or no type changes at all. */
function keepsType(change: ColumnChange, there: ChangedColumn, conversion: Conversion | null, context: Context): boolean {
  const { column, oldType, inKey, wasInKey } = change;
  const { changed, types, oldTypes, to } = context;
  const changesKey = (changed.newKey !== null || changed.dropsKey) && (inKey || wasInKey);
  if (oldType === null && !changesKey) return true;
  const type = types.get(column.name) ?? "";
  const has = parseMysqlType(there.type);
  const wasMade = sameType(there, oldTypes.get(column.attnum) ?? "");
  // Somebody has converted it already, or there is nothing to convert.
  if (sameType(there, type))
    return !wasMade || conversion === "kept" || (conversion === "boolean-to-number" && has.kind === "integer");
  // All columns of a key share its bytes.
  if (wasMade || !mysqlHolds(to, column, has) || (inKey && changesKey)) return false;
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

function keyClauses({ keyIndex, hasNewKey }: ChangedTable, { dropsKey, newKey }: ChangedColumns): readonly string[] {
  const drop = keyIndex === "PRIMARY" ? "DROP PRIMARY KEY" : `DROP INDEX ${quoteMysql(keyIndex ?? "")}`;
  return [
    ...(dropsKey && keyIndex !== null ? [drop] : []),
    ...(newKey === null || hasNewKey ? [] : [`ADD PRIMARY KEY (${newKey.map(quoteMysql).join(", ")})`]),
  ];
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
