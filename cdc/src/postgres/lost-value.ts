import type { ColumnSchema } from "@cascade/shared/table-schema";
import { wireKindOf, wireValue } from "./wire-value.ts";

const SPECIAL = /^(?:NaN|-?Infinity)$/;
const NUMBER = /^-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
const NUMERIC = 1700;

/**
 * The wire value to publish where wal2json sent null, from what main-db holds there now: its text, null for NULL, undefined when the row
 * is gone. Unless it is a special number, the row has changed since or the value was NULL; in the first case an event that says so
 * comes later (decision 0014 argues each case).
 */
export function lostValue(
  { nullable, typeOid }: Pick<ColumnSchema, "nullable" | "typeOid">,
  now: string | null | undefined,
): string {
  const wire = (text: string) => wireValue(wireKindOf(typeOid), JSON.stringify(text));
  if (typeof now === "string" && SPECIAL.test(now)) return wire(now);
  // An ordinary number of later could meet, on a replica, the same number in a row of now that is to give it up: NULL meets nothing.
  if (nullable) return "null";
  if (typeof now === "string" && NUMBER.test(now)) return wire(now);
  // Special it was, and which is known for numeric with a precision alone (NaN); a float's must do on every engine: SQLite knows no NaN.
  return wire(typeOid === NUMERIC ? "NaN" : "Infinity");
}
