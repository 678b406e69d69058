import type { WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { malformedEvent, PG_TYPE } from "../row-shape.ts";
import { columnTypeFor } from "../types/type-table.ts";
import { floatText } from "./float-text.ts";
import type { Encoder } from "./row-writers.ts";

/** How a column's values are stored; ANY: floats as REAL, and what REAL cannot hold as text. */
export type StorageClass = "INTEGER" | "REAL" | "TEXT" | "BLOB" | "ANY";

/** In the column that Cascade makes. Exact decimals, times, json and everything else keep PostgreSQL's text: SQLite's own numbers would round them. */
export const storageClass = (source: ColumnSchema): StorageClass => columnTypeFor("sqlite", source) as StorageClass;

/**
 * How SQLite would store the source's values in a column declared `declared`, or null when it would change or refuse them.
 * In an ordinary table the declared type is only an affinity (https://sqlite.org/datatype3.html §3.1): text that looks like a number
 * becomes one under NUMERIC, so "19.90" would read 19.9.
 */
export function storageIn(source: ColumnSchema, declared: string, strict: boolean): StorageClass | null {
  const own = storageClass(source);
  const kept = strict ? keptByStrict(declared.toUpperCase()) : keptByAffinity(affinity(declared.toUpperCase()));
  if (kept.includes(own)) return own;
  if (own === "ANY" && kept.includes("REAL")) return "REAL";
  return own !== "BLOB" && kept.includes("TEXT") ? "TEXT" : null;
}

const EVERYTHING: readonly StorageClass[] = ["INTEGER", "REAL", "TEXT", "BLOB", "ANY"];

function keptByStrict(declared: string): readonly StorageClass[] {
  if (declared === "ANY") return EVERYTHING;
  return [declared === "INT" ? "INTEGER" : (declared as StorageClass)];
}

type Affinity = Exclude<StorageClass, "ANY"> | "NUMERIC";

function affinity(declared: string): Affinity {
  if (declared.includes("INT")) return "INTEGER";
  if (/CHAR|CLOB|TEXT/.test(declared)) return "TEXT";
  if (declared === "" || declared.includes("BLOB")) return "BLOB";
  return /REAL|FLOA|DOUB/.test(declared) ? "REAL" : "NUMERIC";
}

function keptByAffinity(given: Affinity): readonly StorageClass[] {
  switch (given) {
    case "BLOB":
      return EVERYTHING; // no conversion at all
    case "TEXT":
      return ["TEXT"];
    case "REAL":
      return ["REAL"];
    case "INTEGER":
    case "NUMERIC":
      return ["INTEGER"];
  }
}

export function encoderFor(schema: TableSchema, source: ColumnSchema, storage: string): Encoder {
  switch (storage) {
    case "INTEGER":
      return integerEncoder(schema, source);
    case "REAL":
      return realEncoder(schema, source);
    case "ANY":
      return anyFloat;
    case "BLOB":
      return bytesEncoder(schema, source);
    default:
      return storageClass(source) === "TEXT" ? null : textEncoder(source.typeOid);
  }
}

function integerEncoder(schema: TableSchema, source: ColumnSchema): Encoder {
  switch (source.typeOid) {
    case PG_TYPE.bool:
      return (value) => (value === null ? null : value ? 1 : 0);
    case PG_TYPE.int8:
    case PG_TYPE.oid:
      return (value) => {
        if (value === null) return null;
        const integer = INTEGER.test(value as string) ? integerOf(value as string) : null;
        if (integer === null) throw unreadable(schema, source);
        return integer;
      };
    default:
      return null;
  }
}

const INTEGER = /^-?\d+$/;

/**
 * Nine digits always fit 32 bits, which bind as an integer without a bigint being made. Null past 64 bits: the driver would bind the
 * lower ones.
 */
function integerOf(text: string): number | bigint | null {
  if (text.length <= 9) return Number(text);
  const integer = BigInt(text);
  return BigInt.asIntN(64, integer) === integer ? integer : null;
}

/** Strict, for a lenient decoder makes something of any text. */
function bytesEncoder(schema: TableSchema, source: ColumnSchema): Encoder {
  return (value) => {
    if (value === null) return null;
    try {
      return Uint8Array.fromBase64(value as string, { lastChunkHandling: "strict" });
    } catch {
      throw unreadable(schema, source);
    }
  };
}

const unreadable = (schema: TableSchema, { name, type }: ColumnSchema) =>
  malformedEvent(schema, `column ${name} holds a text that is no ${type} value`);

function realEncoder(schema: TableSchema, source: ColumnSchema): Encoder {
  return (value) => {
    if (value === null) return null;
    if (value === "NaN" || Object.is(value, -0))
      throw unsupportedFloat(schema, source, value === "NaN" ? "NaN" : "negative zero");
    return Number(value);
  };
}

/** NaN stays a text: it sorts after every number then, as PostgreSQL's does. */
const anyFloat = (value: WireValue): SqlValue => (value === null || value === "NaN" ? value : Number(value));

/** A wider column of the user's own holds PostgreSQL's text, whatever the type. */
function textEncoder(typeOid: number): Encoder {
  const isFloat = typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8;
  return (value) => {
    if (value === null) return null;
    return isFloat && typeof value === "number" ? floatText(value, typeOid) : String(value);
  };
}

function unsupportedFloat(schema: TableSchema, source: ColumnSchema, what: string): UnsupportedValueError {
  return new UnsupportedValueError({
    code: "UNSUPPORTED_VALUE",
    verdict: "stop-table",
    message: `column ${source.name} of table ${formatTableName(schema)} holds ${what}, which SQLite's REAL cannot keep apart from ${what === "NaN" ? "NULL" : "zero"} (row found by ${schema.key.join(", ") || "no key"})`,
    advice: `give the replica's table an ANY column ${source.name} (in a STRICT table), which holds every ${source.type}; or exclude the table (ROUTER_TABLES=...,!${formatTableName(schema)})`,
  });
}
