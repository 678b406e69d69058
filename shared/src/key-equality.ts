import type { WireRow, WireValue } from "./change-event.ts";
import { FIRST_USER_OID, type TableSchema } from "./table-schema.ts";

/**
 * Two keys may be one to PostgreSQL and look different: the numerics 1.0 and 1.00, the floats 0 and -0. Which of them it is matters to an
 * engine that keeps their text (SQLite), and that they are one matters to an engine that does not.
 */

/** Built-in types (pg_type OIDs) whose values are equal only when their texts are. Types of the source's own are text on a replica. */
const EXACT: ReadonlySet<number> = new Set([
  16, 17, 18, 19, 20, 21, 23, 25, 26, 28, 829, 869, 774, 1043, 1082, 1083, 1114, 1184, 1560, 1562, 2950, 3220,
]);
const NUMERIC = 1700;
const FLOATS: ReadonlySet<number> = new Set([700, 701]);
const BLANK_PADDED = 1042;

/** A text that is the same for keys that may be equal; null for a table in which only the same text is the same key. */
export type KeyClass = ((row: WireRow) => string) | null;

export function keyClassOf(schema: TableSchema): KeyClass {
  const parts = keyColumnClasses(schema);
  if (parts.every(({ classOf }) => classOf === "exact")) return null;
  return (row) =>
    parts
      .map(({ name, classOf }) => {
        const value = row[name] as WireValue;
        const part = classOf === "any" ? "" : classOf === "exact" ? String(value) : classOf(value);
        return `${part.length}:${part}`;
      })
      .join("");
}

/** The key's columns, and which of their values are equal. */
export function keyColumnClasses(schema: TableSchema) {
  const types = new Map(schema.columns.map(({ name, typeOid }) => [name, typeOid]));
  return schema.key.map((name) => ({ name, classOf: valueClass(types.get(name) ?? 0) }));
}

/** A text that is the same for equal values; `exact`: their own is; `any`: of intervals, jsonb, arrays, ranges, ... any two may be equal. */
function valueClass(typeOid: number): "exact" | "any" | ((value: WireValue) => string) {
  if (EXACT.has(typeOid) || typeOid >= FIRST_USER_OID) return "exact";
  if (typeOid === NUMERIC) return (value) => canonicalNumeric(String(value));
  if (FLOATS.has(typeOid)) return (value) => (value === 0 ? "0" : String(value));
  if (typeOid === BLANK_PADDED) return (value) => String(value).replace(/ +$/, "");
  return "any";
}

/** PostgreSQL writes numerics without an exponent and without leading zeros but one. */
export function canonicalNumeric(text: string): string {
  const trimmed = text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  return trimmed === "-0" ? "0" : trimmed;
}
