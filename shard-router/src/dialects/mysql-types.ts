import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { columnTypeFor } from "../types/type-table.ts";

/** What a column of MySQL or MariaDB keeps values as. */
export type MysqlKind = "text" | "integer" | "decimal" | "double" | "bytes" | "date" | "datetime" | "time" | "uuid";

/** A column type such as `decimal(12,4)` or `int(10) unsigned`, taken apart. */
export interface MysqlType {
  readonly base: string;
  readonly kind: MysqlKind | null;
  /** Length, or precision and scale. */
  readonly size: readonly number[];
  readonly unsigned: boolean;
}

const KINDS: Readonly<Record<string, MysqlKind>> = {
  char: "text",
  varchar: "text",
  longtext: "text",
  mediumtext: "text",
  text: "text",
  tinytext: "text",
  boolean: "integer",
  tinyint: "integer",
  smallint: "integer",
  mediumint: "integer",
  int: "integer",
  bigint: "integer",
  decimal: "decimal",
  double: "double",
  binary: "bytes",
  varbinary: "bytes",
  longblob: "bytes",
  mediumblob: "bytes",
  blob: "bytes",
  tinyblob: "bytes",
  date: "date",
  datetime: "datetime",
  time: "time",
  uuid: "uuid",
};

/** Reads information_schema's COLUMN_TYPE, or what `mysqlColumnType` gives. */
export function parseMysqlType(text: string): MysqlType {
  const match = /^([a-z]+)(?:\(([\d,]+)\))?(.*)$/.exec(text.toLowerCase());
  const base = match?.[1] ?? "";
  const size = (match?.[2] ?? "").split(",").filter((digits) => digits !== "");
  return { base, kind: KINDS[base] ?? null, size: size.map(Number), unsigned: match?.[3]?.includes("unsigned") === true };
}

/** A key's columns may have 3,072 bytes in all (InnoDB); each character may take four. */
export const KEY_BYTES = 3_072;
export const BYTES_PER_CHARACTER = 4;
const LONGEST_FIXED = 36;

/** The type of the column that Cascade makes; in a key a text must have a length, of which longer ones share what there is. */
export function mysqlColumnType(schema: TableSchema, column: ColumnSchema): string {
  const type = columnTypeFor("mysql", column);
  if (!schema.key.includes(column.name)) return type === "TEXT" || isCrowded(schema, type) ? "LONGTEXT" : type;
  if (type === "LONGBLOB") return `VARBINARY(${keyShare(schema)})`;
  const length = parseMysqlType(type).base === "varchar" ? parseMysqlType(type).size[0] : undefined;
  const most = Math.floor(keyShare(schema) / BYTES_PER_CHARACTER);
  if (type === "TEXT") return `VARCHAR(${most})`;
  return length !== undefined && length > most ? `VARCHAR(${most})` : type;
}

/** A row may be declared to have 65,535 bytes, in which a LONGTEXT counts for little. */
const ROW_BYTES = 48_000;

function isCrowded(schema: TableSchema, type: string): boolean {
  if (!type.startsWith("VARCHAR")) return false;
  const lengths = schema.columns.map((column) => /^VARCHAR\((\d+)\)$/.exec(columnTypeFor("mysql", column))?.[1] ?? 0);
  return lengths.reduce<number>((sum, length) => sum + Number(length), 0) * BYTES_PER_CHARACTER > ROW_BYTES;
}

/** Bytes for each of the key's columns that can be long. */
function keyShare(schema: TableSchema): number {
  const types = schema.columns.filter(({ name }) => schema.key.includes(name)).map((column) => columnTypeFor("mysql", column));
  const long = types.filter((type) => /^(?:TEXT|LONGBLOB|VARCHAR)/.test(type)).length;
  return Math.floor((KEY_BYTES - (types.length - long) * LONGEST_FIXED) / Math.max(1, long));
}
