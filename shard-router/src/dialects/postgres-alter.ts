import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import { PG_TYPE } from "../row-shape.ts";
import { orderRenames, type Rename } from "../schema-change.ts";
import { replicaType } from "./postgres-types.ts";
import { quote } from "./sql.ts";

/** DDL text for the changes of a table. `sqlName` is the table's, qualified and quoted. */

export function moveTexts(from: TableName, to: TableName): readonly string[] {
  const texts: string[] = [];
  if (from.schema !== to.schema) {
    // By way of a name that no table of either schema has.
    const between = `cascade between ${from.table}`.slice(0, 40);
    texts.push(`ALTER TABLE ${quote(from.schema)}.${quote(from.table)} RENAME TO ${quote(between)}`);
    texts.push(`ALTER TABLE ${quote(from.schema)}.${quote(between)} SET SCHEMA ${quote(to.schema)}`);
    texts.push(`ALTER TABLE ${quote(to.schema)}.${quote(between)} RENAME TO ${quote(to.table)}`);
  } else if (from.table !== to.table) {
    texts.push(`ALTER TABLE ${quote(from.schema)}.${quote(from.table)} RENAME TO ${quote(to.table)}`);
  }
  return texts;
}

export const renameColumnTexts = (sqlName: string, renames: readonly Rename[]): readonly string[] =>
  orderRenames(renames, (index) => `cascade between ${index}`).map(
    ({ from, to }) => `ALTER TABLE ${sqlName} RENAME COLUMN ${quote(from)} TO ${quote(to)}`,
  );

/** The default serves the rows that are there, without writing them, and goes again: every row that comes has every column. */
export function addColumnTexts(sqlName: string, column: ColumnSchema, existing: WireValue, notNull: boolean): readonly string[] {
  const name = quote(column.name);
  const value = existing === null ? "" : ` DEFAULT ${literal(column, existing)}`;
  return [
    `ALTER TABLE ${sqlName} ADD COLUMN ${name} ${replicaType(column)}${value}${notNull ? " NOT NULL" : ""}`,
    ...(existing === null ? [] : [`ALTER TABLE ${sqlName} ALTER COLUMN ${name} DROP DEFAULT`]),
  ];
}

export function changeTypeText(sqlName: string, column: ColumnSchema): string {
  const [name, type] = [quote(column.name), replicaType(column)];
  return `ALTER TABLE ${sqlName} ALTER COLUMN ${name} TYPE ${type} USING ${name}::${type}`;
}

/** For values that cannot be converted, and come anew. */
export function replaceColumnTexts(sqlName: string, column: ColumnSchema): readonly string[] {
  return [`ALTER TABLE ${sqlName} DROP COLUMN ${quote(column.name)}`, ...addColumnTexts(sqlName, column, null, false)];
}

const textLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`;

function literal(column: ColumnSchema, value: Exclude<WireValue, null>): string {
  if (column.typeOid === PG_TYPE.bytea) return `decode(${textLiteral(String(value))}, 'base64')`;
  return `${textLiteral(Object.is(value, -0) ? "-0" : String(value))}::${replicaType(column)}`;
}
