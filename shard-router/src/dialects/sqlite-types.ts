import type { WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { PG_TYPE } from "../row-shape.ts";

export type StorageClass = "INTEGER" | "REAL" | "TEXT" | "BLOB";

/** Exact decimals, times, json and everything else keep PostgreSQL's text: SQLite's own numbers would round them. */
export function storageClass(typeOid: number): StorageClass {
  switch (typeOid) {
    case PG_TYPE.bool:
    case PG_TYPE.int2:
    case PG_TYPE.int4:
    case PG_TYPE.int8:
    case PG_TYPE.oid:
      return "INTEGER";
    case PG_TYPE.float4:
    case PG_TYPE.float8:
      return "REAL";
    case PG_TYPE.bytea:
      return "BLOB";
    default:
      return "TEXT";
  }
}

/**
 * How SQLite would store the source's values in a column declared `declared`, or null when it would change or refuse them.
 * In an ordinary table the declared type is only an affinity (https://sqlite.org/datatype3.html §3.1): text that looks like a number
 * becomes one under NUMERIC, so "19.90" would read 19.9.
 */
export function storageIn(source: ColumnSchema, declared: string, strict: boolean): StorageClass | null {
  const own = storageClass(source.typeOid);
  const kept = strict ? keptByStrict(declared.toUpperCase()) : keptByAffinity(affinity(declared.toUpperCase()));
  if (kept.includes(own)) return own;
  return own !== "BLOB" && kept.includes("TEXT") ? "TEXT" : null;
}

const EVERYTHING: readonly StorageClass[] = ["INTEGER", "REAL", "TEXT", "BLOB"];

function keptByStrict(declared: string): readonly StorageClass[] {
  if (declared === "ANY") return EVERYTHING;
  return [declared === "INT" ? "INTEGER" : (declared as StorageClass)];
}

type Affinity = StorageClass | "NUMERIC";

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

/** Makes a wire value one that SQLite binds; null for a column whose wire values are bound as they are. */
export type Encoder = ((value: WireValue) => SqlValue) | null;

export function encoderFor(schema: TableSchema, source: ColumnSchema, storage: string): Encoder {
  switch (storage) {
    case "INTEGER":
      return integerEncoder(source.typeOid);
    case "REAL":
      return realEncoder(schema, source);
    case "BLOB":
      return (value) => (value === null ? null : Buffer.from(value as string, "base64"));
    default:
      // A wider column of the user's own: PostgreSQL's text for every type.
      return storageClass(source.typeOid) === "TEXT" ? null : textOf;
  }
}

function integerEncoder(typeOid: number): Encoder {
  switch (typeOid) {
    case PG_TYPE.bool:
      return (value) => (value === null ? null : value ? 1 : 0);
    case PG_TYPE.int8:
    case PG_TYPE.oid:
      return (value) => (value === null ? null : integer(value as string));
    default:
      return null;
  }
}

/** Nine digits always fit 32 bits, which bind as an integer without a bigint being made. */
const integer = (text: string): number | bigint => (text.length <= 9 ? Number(text) : BigInt(text));

function realEncoder(schema: TableSchema, source: ColumnSchema): Encoder {
  return (value) => {
    if (value === null) return null;
    if (value === "NaN" || Object.is(value, -0))
      throw unsupportedFloat(schema, source, value === "NaN" ? "NaN" : "negative zero");
    return Number(value);
  };
}

function textOf(value: WireValue): SqlValue {
  return value === null ? null : Object.is(value, -0) ? "-0" : String(value);
}

function unsupportedFloat(schema: TableSchema, source: ColumnSchema, what: string): UnsupportedValueError {
  return new UnsupportedValueError({
    code: "UNSUPPORTED_VALUE",
    verdict: "stop-table",
    message: `column ${source.name} of table ${formatTableName(schema)} holds ${what}, which SQLite's REAL cannot keep apart from ${what === "NaN" ? "NULL" : "zero"} (row found by ${schema.key.join(", ") || "no key"})`,
    advice: `give the replica's table a TEXT column ${source.name}: it then holds every ${source.type} in PostgreSQL's text form; or exclude the table (ROUTER_TABLES=...,!${formatTableName(schema)})`,
  });
}
