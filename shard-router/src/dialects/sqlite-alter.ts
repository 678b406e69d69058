import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { orderRenames, type Rename } from "../schema-change.ts";
import { quote } from "./sql.ts";
import { encoderFor, type StorageClass, storageClass } from "./sqlite-types.ts";
import { foldAscii } from "./table-names.ts";

/** DDL text for the changes of a table. `sqlName` is the table's, quoted. */

/** SQLite takes two names that differ in case for one, and would say that the table is there already. */
export function renameTableTexts(from: string, to: string): readonly string[] {
  if (from === to) return [];
  const rename = (old: string, name: string) => `ALTER TABLE ${quote(old)} RENAME TO ${quote(name)}`;
  if (foldAscii(from) !== foldAscii(to)) return [rename(from, to)];
  const between = `cascade between ${from}`;
  return [rename(from, between), rename(between, to)];
}

export const renameColumnTexts = (sqlName: string, renames: readonly Rename[]): readonly string[] =>
  orderRenames(renames, (index) => `cascade between ${index}`).map(
    ({ from, to }) => `ALTER TABLE ${sqlName} RENAME COLUMN ${quote(from)} TO ${quote(to)}`,
  );

/** The default serves the rows that are there, without writing them, and stays: every row that comes has every column. */
export function columnText(schema: TableSchema, column: ColumnSchema, existing: WireValue, notNull: boolean): string {
  const type = storageClass(column);
  const value = existing === null ? "" : ` DEFAULT ${literal(schema, column, existing)}`;
  return `${quote(column.name)} ${type}${notNull ? " NOT NULL" : ""}${value}`;
}

/** As the router would bind it. */
export function literal(schema: TableSchema, column: ColumnSchema, value: WireValue): string {
  const type = storageClass(column);
  const encode = encoderFor(schema, column, type);
  const bound = encode === null ? value : encode(value);
  if (bound === null) return "NULL";
  if (bound instanceof Uint8Array) return `X'${bound.toHex()}'`;
  if (typeof bound === "string") return `'${bound.replaceAll("'", "''")}'`;
  return type === "ANY" ? realLiteral(Number(bound)) : String(bound);
}

function realLiteral(value: number): string {
  if (!Number.isFinite(value)) return value > 0 ? "9e999" : "-9e999";
  const text = Object.is(value, -0) ? "-0" : String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/**
 * SQL for the values of a column under its new type; null when they cannot be had from the old ones. `exact`: they are what main-db has,
 * if its own conversion was the ordinary one.
 */
export function conversion(from: ColumnSchema, to: ColumnSchema, sql: string): { readonly sql: string; readonly exact: boolean } {
  const [old, now]: readonly [StorageClass, StorageClass] = [storageClass(from), storageClass(to)];
  if (old === now) return { sql, exact: true };
  if (now === "TEXT" && old === "INTEGER") {
    return from.typeOid === PG_TYPE.bool
      ? { sql: `CASE ${sql} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END`, exact: true }
      : { sql: `CAST(${sql} AS TEXT)`, exact: true };
  }
  if (now === "ANY" && old === "INTEGER") return { sql: `CAST(${sql} AS REAL)`, exact: true };
  if (now === "INTEGER" && old === "TEXT")
    return { sql: `iif(CAST(CAST(${sql} AS INTEGER) AS TEXT) = ${sql}, CAST(${sql} AS INTEGER), NULL)`, exact: false };
  return { sql: "NULL", exact: false };
}
