import type { WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import { type ColumnSchema, FIRST_USER_OID, type TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { malformedEvent, PG_TYPE } from "../row-shape.ts";
import { floatText } from "./float-text.ts";
import { declaredLength } from "./mysql-fit.ts";
import {
  BYTES_PER_CHARACTER,
  KEY_BYTES,
  type MysqlKind,
  type MysqlType,
  mysqlColumnType,
  parseMysqlType,
} from "./mysql-types.ts";
import type { Encoder } from "./row-writers.ts";

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
