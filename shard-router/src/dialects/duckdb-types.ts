import type { WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import { type ColumnSchema, FIRST_USER_OID } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "../dialect.ts";
import { PG_TYPE } from "../row-shape.ts";
import { columnTypeFor } from "../types/type-table.ts";
import { floatText } from "./float-text.ts";
import { quote } from "./sql.ts";

/** The type of the column that Cascade makes for a source column, as duckdb_columns() shows it. */
export function duckdbType(column: ColumnSchema): string {
  const type = columnTypeFor("duckdb", column);
  return type === "TEXT" ? "VARCHAR" : type;
}

/** Types with room for every value of ours, written the same. */
const WIDER: Readonly<Record<string, readonly string[]>> = {
  SMALLINT: ["INTEGER", "BIGINT", "HUGEINT"],
  INTEGER: ["BIGINT", "HUGEINT"],
  BIGINT: ["HUGEINT"],
  UINTEGER: ["BIGINT", "UBIGINT", "HUGEINT"],
  FLOAT: ["DOUBLE"],
};

/** Whether a column of the replica declared `type` holds every value of the source column exactly, or refuses it loudly. */
export function duckdbHolds(source: ColumnSchema, type: string): boolean {
  const own = duckdbType(source);
  if (type === own) return true;
  if (type === "VARCHAR") return source.typeOid !== PG_TYPE.bytea;
  if (source.typeOid >= FIRST_USER_OID) return false;
  if (WIDER[own]?.includes(type)) return true;
  const [mine, theirs] = [decimalDigits(own), decimalDigits(type)];
  return mine !== null && theirs !== null && theirs.scale === mine.scale && theirs.precision >= mine.precision;
}

function decimalDigits(type: string): { readonly precision: number; readonly scale: number } | null {
  const match = /^DECIMAL\((\d+),(\d+)\)$/.exec(type);
  return match === null ? null : { precision: Number(match[1]), scale: Number(match[2]) };
}

/** Makes a wire value what the statement's JSON holds; null for a column whose values go as they are. */
export type Encoder = ((value: WireValue) => WireValue) | null;

/** How a wire value gets into a column: as JSON, as a field of the statement's struct, and from there as a value. */
export interface StructField {
  readonly encode: Encoder;
  /** Type of the struct's field, which DuckDB reads from JSON. */
  readonly declared: string;
  /** The column's value, given the SQL for the struct's field. */
  readonly value: (field: string) => string;
  /** Whether IS NOT DISTINCT FROM tells values apart exactly; else their text does. */
  readonly comparable: boolean;
}

const asItIs = (field: string): string => field;

export function structField(table: Pick<ReplicaTable, "source" | "sqlName">, source: ColumnSchema, type: string): StructField {
  const isFloat = source.typeOid === PG_TYPE.float4 || source.typeOid === PG_TYPE.float8;
  if (type === "BLOB") {
    return { encode: null, declared: "VARCHAR", value: (field) => `from_base64(${field})`, comparable: true };
  }
  if (type === "VARCHAR") {
    return { encode: isFloat ? floatAsText(source.typeOid) : null, declared: type, value: asItIs, comparable: true };
  }
  if (type === "FLOAT" || type === "DOUBLE") {
    // Through text: FLOAT by way of DOUBLE could be rounded twice.
    return { encode: signedZero, declared: "VARCHAR", value: (field) => `CAST(${field} AS ${type})`, comparable: false };
  }
  const encode = encoderFor(table, source, type);
  return { encode, declared: type, value: asItIs, comparable: true };
}

function encoderFor(table: Pick<ReplicaTable, "source" | "sqlName">, source: ColumnSchema, type: string): Encoder {
  if (type === "DATE") return withEra;
  if (type.startsWith("TIMESTAMP")) {
    return (value) => {
      // Nearly all years have four digits, and those are written the same everywhere.
      if (typeof value !== "string" || (value[4] === "-" && !value.endsWith("C"))) return value;
      if (isPastEnd(value)) throw unsupportedValue(table, source, "a time after 10 January 294247", type);
      return withEra(value);
    };
  }
  if (type.startsWith("DECIMAL")) {
    return (value) => {
      if (value === "NaN") throw unsupportedValue(table, source, "NaN", type);
      return value;
    };
  }
  return null;
}

/** JSON has no -0 for JavaScript to write; DuckDB reads it from a string. */
const signedZero = (value: WireValue): WireValue => (Object.is(value, -0) ? "-0" : value);

const floatAsText = (typeOid: number) => (value: WireValue) => (typeof value === "number" ? floatText(value, typeOid) : value);

/** PostgreSQL writes the era behind the value, DuckDB behind the date: 0044-03-15 (BC) 12:00:00+00. */
function withEra(value: WireValue): WireValue {
  if (typeof value !== "string" || !value.endsWith(" BC")) return value;
  const [date = "", ...time] = value.slice(0, -" BC".length).split(" ");
  return [date, "(BC)", ...time].join(" ");
}

/** The last microsecond that is not DuckDB's infinity; PostgreSQL's timestamps go on to the year 294276. */
const LAST_TIMESTAMP = "294247-01-10 04:00:54.775806";

function isPastEnd(value: string): boolean {
  if (!/^\d{6}-/.test(value) || value.endsWith("C")) return false;
  return value.replace(/\+00$/, "") > LAST_TIMESTAMP;
}

function unsupportedValue(
  { source: table, sqlName }: Pick<ReplicaTable, "source" | "sqlName">,
  { name, type }: ColumnSchema,
  what: string,
  columnType: string,
): UnsupportedValueError {
  const inKey = table.key.includes(name);
  const cure = inKey
    ? `make ${sqlName} anew with ${quote(name)} VARCHAR`
    : `run on the replica: ALTER TABLE ${sqlName} ALTER COLUMN ${quote(name)} TYPE VARCHAR`;
  return new UnsupportedValueError({
    code: "UNSUPPORTED_VALUE",
    verdict: "stop-table",
    message: `column ${name} of table ${formatTableName(table)} holds ${what}, which DuckDB's ${columnType} cannot hold (row found by ${table.key.join(", ") || "no key"})`,
    advice: `${cure}, which holds every ${type}; or exclude the table (ROUTER_TABLES=...,!${formatTableName(table)})`,
  });
}
