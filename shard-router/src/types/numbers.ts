import type { ColumnSchema } from "@cascade/shared/table-schema";
import { asText, same, type TypeRow } from "./type-row.ts";

const SPECIAL_FLOATS = ["NaN", "Infinity", "-Infinity", "-0"];
const FLOATS = [...SPECIAL_FLOATS, "0", "0.1", "-2.5", "1e-5", "0.0001", "123456", "1234567", "1e15", "1e20"];

export const NUMBERS: readonly TypeRow[] = [
  {
    group: "Numbers",
    types: { smallint: 21 },
    columns: { postgres: same, mysql: "SMALLINT", sqlite: "INTEGER", duckdb: "SMALLINT" },
    literals: ["-32768", "32767", "0"],
  },
  {
    group: "Numbers",
    types: { integer: 23 },
    columns: { postgres: same, mysql: "INT", sqlite: "INTEGER", duckdb: "INTEGER" },
    literals: ["-2147483648", "2147483647", "0"],
  },
  {
    group: "Numbers",
    types: { bigint: 20 },
    columns: { postgres: same, mysql: "BIGINT", sqlite: "INTEGER", duckdb: "BIGINT" },
    literals: ["-9223372036854775808", "9223372036854775807", "9007199254740993", "-1", "2147483648", "999999999"],
  },
  {
    group: "Numbers",
    types: { numeric: 1700 },
    columns: asText,
    literals: [
      "0",
      "1.0",
      "1.00",
      "-0.00",
      "1234567890123456789012345678.0123456789",
      "1e-20",
      "NaN",
      "Infinity",
      "-Infinity",
      `${"9".repeat(131_072)}.${"1".repeat(16_383)}`,
    ],
    note: "without precision: as text, since no other engine has numbers of 131,072 digits",
  },
  {
    group: "Numbers",
    types: { "numeric(12,4)": 1700 },
    columns: { postgres: same, mysql: mysqlDecimal, sqlite: "TEXT", duckdb: duckdbDecimal },
    literals: ["19.9", "-12345678.1234", "0", "NaN"],
    refused: { mysql: ["NaN"], duckdb: ["NaN"] },
    note: "a number of the engine's own up to 65 digits with 30 decimals on MySQL and MariaDB, 38 digits on DuckDB, which cannot hold NaN; as text beyond that",
  },
  {
    group: "Numbers",
    types: { "numeric(80,40)": 1700, "numeric(3,5)": 1700, "numeric(4,-2)": 1700 },
    columns: { postgres: same, mysql: mysqlDecimal, sqlite: "TEXT", duckdb: duckdbDecimal },
    literals: ["0.00123", "0", "NaN"],
  },
  {
    group: "Numbers",
    types: { real: 700 },
    columns: { postgres: same, mysql: "VARCHAR(24)", sqlite: "ANY", duckdb: "FLOAT" },
    literals: [...FLOATS, "3.4028235e38", "1e-45", "1.17549435e-38", "16777217", "999999.9"],
    note: "as text on MySQL and MariaDB, whose DOUBLE has no NaN, no infinities and no negative zero; in SQLite a REAL, and NaN as the text 'NaN'",
  },
  {
    group: "Numbers",
    types: { "double precision": 701 },
    columns: { postgres: same, mysql: "VARCHAR(24)", sqlite: "ANY", duckdb: "DOUBLE" },
    literals: [
      ...FLOATS,
      "1.7976931348623157e308",
      "5e-324",
      "2.2250738585072014e-308",
      "9007199254740993",
      "100000000000000.1",
      "5",
    ],
    note: "as real",
  },
  {
    group: "Numbers",
    types: { money: 790 },
    columns: asText,
    literals: ["-1234.50", "92233720368547758.07"],
    note: "the text of the locale C, e.g. -$1,234.50",
  },
  {
    group: "Numbers",
    types: { oid: 26 },
    columns: { postgres: same, mysql: "INT UNSIGNED", sqlite: "INTEGER", duckdb: "UINTEGER" },
    literals: ["0", "4294967295"],
  },
  {
    group: "Numbers",
    types: { boolean: 16 },
    columns: { postgres: same, mysql: "BOOLEAN", sqlite: "INTEGER", duckdb: "BOOLEAN" },
    literals: ["t", "f"],
    note: "1 and 0 where the engine has no booleans",
  },
];

/** Digits and decimals of `numeric(12,4)`; null for a numeric without precision and for everything else. */
export function decimalOf({
  typeOid,
  type,
}: Pick<ColumnSchema, "typeOid" | "type">): { precision: number; scale: number } | null {
  const match = /^numeric\((\d+),(-?\d+)\)$/.exec(type);
  return typeOid === 1700 && match !== null ? { precision: Number(match[1]), scale: Number(match[2]) } : null;
}

function mysqlDecimal(column: ColumnSchema): string {
  return decimal(column, 65, 30) ?? "TEXT";
}

function duckdbDecimal(column: ColumnSchema): string {
  return decimal(column, 38, 38) ?? "TEXT";
}

/** DECIMAL where the engine's has the room; the scale of PostgreSQL's may be negative or exceed the precision. */
function decimal(column: ColumnSchema, maxPrecision: number, maxScale: number): string | null {
  const { precision, scale } = decimalOf(column) ?? { precision: Number.POSITIVE_INFINITY, scale: 0 };
  const fits = precision <= maxPrecision && scale >= 0 && scale <= Math.min(precision, maxScale);
  return fits ? `DECIMAL(${precision},${scale})` : null;
}
