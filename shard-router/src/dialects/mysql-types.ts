import type { WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import { type ColumnSchema, FIRST_USER_OID, type TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { malformedEvent, PG_TYPE } from "../row-shape.ts";
import { decimalOf } from "../types/numbers.ts";
import { columnTypeFor } from "../types/type-table.ts";
import { floatText } from "./float-text.ts";
import type { Encoder } from "./row-writers.ts";

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
const KEY_BYTES = 3_072;
const BYTES_PER_CHARACTER = 4;
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

/** Whether a column of the user's own holds every value of the source's, or refuses it loudly: never another value. */
export function mysqlHolds(schema: TableSchema, source: ColumnSchema, type: MysqlType): boolean {
  const { typeOid } = source;
  switch (type.kind) {
    case "text":
      return typeOid !== PG_TYPE.bytea && holdsText(schema, source, type);
    case "integer":
      return holdsInteger(typeOid, type);
    case "decimal": {
      const wanted = decimalOf(source);
      const [precision = 10, scale = 0] = type.size;
      return wanted !== null && !type.unsigned && scale === wanted.scale && precision >= wanted.precision;
    }
    case "double":
      return (typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8) && type.size.length === 0 && !type.unsigned;
    case "bytes":
      return typeOid === PG_TYPE.bytea && type.base !== "binary" && bytesOf(type) >= neededBytes(schema, source);
    case "date":
      return typeOid === DATE;
    case "datetime":
      return TIMESTAMPS.has(typeOid) && (type.size[0] ?? 0) >= (fractionDigits(source) ?? 6);
    case "time":
      return typeOid === TIME && (type.size[0] ?? 0) >= (fractionDigits(source) ?? 6);
    case "uuid":
      return typeOid === UUID;
    case null:
      return false;
  }
}

const DATE = 1082;
const TIME = 1083;
const TIMESTAMPS: ReadonlySet<number> = new Set([1114, 1184]);
const UUID = 2950;

const fractionDigits = ({ typmod }: ColumnSchema): number | null => (typmod >= 0 ? typmod : null);

const INTEGER_BYTES: Readonly<Record<string, number>> = { boolean: 1, tinyint: 1, smallint: 2, mediumint: 3, int: 4, bigint: 8 };

function holdsInteger(typeOid: number, { base, unsigned }: MysqlType): boolean {
  const bytes = INTEGER_BYTES[base] ?? 0;
  switch (typeOid) {
    case PG_TYPE.bool:
      return true;
    case PG_TYPE.int2:
      return !unsigned && bytes >= 2;
    case PG_TYPE.int4:
      return !unsigned && bytes >= 4;
    case PG_TYPE.int8:
      return !unsigned && bytes >= 8;
    case PG_TYPE.oid:
      return (unsigned && bytes >= 4) || bytes >= 8;
    default:
      return false;
  }
}

/** CHAR loses blanks at the end. */
function holdsText(schema: TableSchema, source: ColumnSchema, { base, size }: MysqlType): boolean {
  if (base === "longtext" || base === "mediumtext") return true;
  if (base === "char" && source.typeOid !== UUID) return false;
  // TEXT and TINYTEXT have so many bytes, of which a character may take four.
  const length = base === "text" ? 16_383 : base === "tinytext" ? 63 : (size[0] ?? 1);
  return length >= neededLength(schema, source);
}

/** Characters of PostgreSQL's longest text of the type; a key's column need not be longer than what Cascade would make. */
function neededLength(schema: TableSchema, source: ColumnSchema): number {
  const made = parseMysqlType(mysqlColumnType(schema, source));
  if (made.kind === "text" && made.size[0] !== undefined) return made.size[0];
  return declaredLength(source) ?? LONGEST_TEXT[source.typeOid] ?? Number.POSITIVE_INFINITY;
}

/** By pg_type OID: numbers, money, times, addresses and identifiers have short texts. */
const LONGEST_TEXT: Readonly<Record<number, number>> = {
  [PG_TYPE.bool]: 5,
  [PG_TYPE.int2]: 6,
  [PG_TYPE.int4]: 11,
  [PG_TYPE.int8]: 20,
  [PG_TYPE.oid]: 10,
  [PG_TYPE.float4]: 24,
  [PG_TYPE.float8]: 24,
  [TIME]: 15,
  790: 32, // money
  829: 17, // macaddr
  774: 23, // macaddr8
  3220: 17, // pg_lsn
  18: 1, // "char"
  19: 63, // name
};

/** n of varchar(n) and char(n); of numeric(p,s) the digits with sign and point. */
function declaredLength(source: ColumnSchema): number | null {
  const length = /^character(?: varying)?\((\d+)\)$/.exec(source.type)?.[1];
  if (length !== undefined) return Number(length);
  const digits = decimalOf(source);
  return digits === null ? null : Math.max(digits.precision, digits.precision - digits.scale, digits.scale) + 3;
}

const bytesOf = ({ base, size }: MysqlType): number =>
  base === "longblob" || base === "mediumblob" ? Number.POSITIVE_INFINITY : base === "varbinary" ? (size[0] ?? 0) : 0;

const neededBytes = (schema: TableSchema, source: ColumnSchema): number =>
  parseMysqlType(mysqlColumnType(schema, source)).size[0] ?? Number.POSITIVE_INFINITY;

/**
 * Every value is bound as a text but bytes: the connector sends rows of one packet
 * with one set of types, and begins another when a row has others.
 */
export function mysqlEncoder(schema: TableSchema, source: ColumnSchema, type: MysqlType): Encoder {
  const { typeOid } = source;
  switch (type.kind) {
    case "bytes":
      return (value) => (value === null ? null : bytes(schema, source, value as string));
    case "decimal":
      return (value) => (value === "NaN" ? refuse(schema, source, "NaN", type) : value);
    case "double":
      return (value) => (value === null ? null : finite(schema, source, value, type));
    case "date":
    case "datetime":
      return (value) => (value === null ? null : calendar(schema, source, value as string, type));
    case "integer":
      if (typeOid === PG_TYPE.bool) return (value) => (value === null ? null : value ? "1" : "0");
      return typeOid === PG_TYPE.int2 || typeOid === PG_TYPE.int4 ? asString : null;
    default:
      if (typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8) {
        return (value) => (typeof value === "number" ? floatText(value, typeOid) : value);
      }
      return typeOid === PG_TYPE.bool || typeOid === PG_TYPE.int2 || typeOid === PG_TYPE.int4 ? asString : null;
  }
}

const asString = (value: WireValue): SqlValue => (value === null ? null : String(value));

/** Strict, for a lenient decoder makes something of any text. The connector knows bytes by Buffer. */
function bytes(schema: TableSchema, source: ColumnSchema, base64: string): Buffer {
  try {
    const decoded = Uint8Array.fromBase64(base64, { lastChunkHandling: "strict" });
    return Buffer.from(decoded.buffer, decoded.byteOffset, decoded.byteLength);
  } catch {
    throw malformedEvent(schema, `column ${source.name} holds a text that is no ${source.type} value`);
  }
}

function finite(schema: TableSchema, source: ColumnSchema, value: WireValue, type: MysqlType): SqlValue {
  if (typeof value !== "number") return refuse(schema, source, String(value), type);
  return Object.is(value, -0) ? refuse(schema, source, "negative zero", type) : String(value);
}

const CALENDAR = /^(\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d(?:\.\d{1,6})?)?)(?:\+00)?$/;

/** DATE and DATETIME know the years 1 to 9999, in UTC here. */
function calendar(schema: TableSchema, source: ColumnSchema, text: string, type: MysqlType): SqlValue {
  const [, plain] = CALENDAR.exec(text) ?? [];
  return plain ?? refuse(schema, source, "a date outside the years 1 to 9999", type);
}

function refuse(schema: TableSchema, source: ColumnSchema, what: string, type: MysqlType): never {
  throw new UnsupportedValueError({
    code: "UNSUPPORTED_VALUE",
    verdict: "stop-table",
    message: `column ${source.name} of table ${formatTableName(schema)} holds ${what}, which the replica's ${type.base.toUpperCase()} cannot hold (row found by ${schema.key.join(", ") || "no key"})`,
    advice: `${cureOf(schema, source, type)}; or exclude the table (ROUTER_TABLES=...,!${formatTableName(schema)})`,
  });
}

/**
 * Of these the server's text is PostgreSQL's, so that a column of them can become text and the values that are there stay as they would
 * have been written. Of others a row would no longer be found by such a value, and come again as a second one.
 */
const WRITTEN_ALIKE: ReadonlySet<MysqlKind | null> = new Set(["decimal", "date"]);

function cureOf(schema: TableSchema, source: ColumnSchema, { kind }: MysqlType): string {
  const inKey = schema.key.includes(source.name);
  const made = mysqlColumnType(schema, source);
  const text = !inKey
    ? "LONGTEXT"
    : parseMysqlType(made).kind === "text"
      ? made
      : `VARCHAR(${declaredLength(source) ?? KEY_BYTES / BYTES_PER_CHARACTER})`;
  const exact = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin (on MySQL utf8mb4_0900_bin)";
  const own = source.typeOid < FIRST_USER_OID ? source.type : "value";
  const modify = `MODIFY the replica's column ${source.name} ${text} ${exact}${source.nullable ? "" : " NOT NULL"}: it then holds every ${own} in PostgreSQL's text form, and the table goes on by itself`;
  if (WRITTEN_ALIKE.has(kind)) return modify;
  const anew = `drop the replica's table and delete its topic's row from cascade_progress: it is made anew with a column that holds every ${own}, and filled from the topic's beginning, as far as Kafka keeps it`;
  if (inKey || schema.key.length === 0) return anew;
  return `${anew}; or ${modify}, while values that are there keep the server's text form`;
}

/** A parameter as a value that is compared with the column: a text compared with a number would be compared as a double. */
export function comparable({ kind, size, unsigned }: MysqlType): string {
  switch (kind) {
    case "integer":
      return unsigned ? "CAST(? AS UNSIGNED)" : "CAST(? AS SIGNED)";
    case "decimal":
      return `CAST(? AS DECIMAL(${size.join(",") || "10"}))`;
    case "double":
      return "CAST(? AS DOUBLE)";
    case "date":
      return "CAST(? AS DATE)";
    case "datetime":
      return "CAST(? AS DATETIME(6))";
    case "time":
      return "CAST(? AS TIME(6))";
    default:
      return "?";
  }
}
