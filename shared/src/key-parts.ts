import { createHash } from "node:crypto";
import type { WireRow, WireValue } from "./change-event.ts";
import { keyColumnClasses } from "./key-equality.ts";
import type { TableSchema } from "./table-schema.ts";

/**
 * Which of several parts a row falls to by the text of some columns: partitions of a topic by its key, shards by what ROUTER_SHARD_KEYS says.
 * The same on every engine and in every process; docs/sharding.md says it in SQL.
 */

/** Between the texts of several columns. */
export const PART_SEPARATOR = "\x1f";

/** The number that the first 8 hexadecimal digits of `md5(text)` are, modulo `count`. */
export function partOf(text: string, count: number): number {
  return createHash("md5").update(text).digest().readUInt32BE(0) % count;
}

/** The text that a row's key is divided by. */
export type KeyText = (key: WireRow) => string;

/**
 * The same text for keys that are equal to any engine, as PostgreSQL writes the values; null where rows cannot be divided by their key:
 * there is none, or two of its values may be equal that look different (intervals, jsonb, arrays, ...).
 */
export function keyTextOf(schema: TableSchema): KeyText | null {
  const parts = keyColumnClasses(schema);
  if (parts.length === 0 || parts.some(({ classOf }) => classOf === "any")) return null;
  const textOf = ({ name, classOf }: (typeof parts)[number], row: WireRow): string => {
    const value = (Object.hasOwn(row, name) ? row[name] : null) as WireValue;
    return value === null ? "" : typeof classOf === "function" ? classOf(value) : String(value);
  };
  const [only] = parts;
  if (parts.length === 1 && only !== undefined) return (row) => textOf(only, row);
  return (row) => parts.map((part) => textOf(part, row)).join(PART_SEPARATOR);
}
