import type { ColumnSchema } from "@cascade/shared/table-schema";
import { type Conversion, lengthOf } from "../types/conversions.ts";

export interface Converted {
  /** SQL for the old value. */
  readonly value: string;
  /** Types of the old column and the new one. */
  readonly has: string;
  readonly wanted: string;
  /** As main-db has it now. */
  readonly column: ColumnSchema;
}

/** SQL for a value of the old column's as the new one has it; null when there is none. DuckDB refuses what does not fit. */
export function convertedValue(conversion: Conversion, { value, has, wanted, column }: Converted): string | null {
  const cast = `CAST(${value} AS ${wanted})`;
  switch (conversion) {
    case "kept":
      return has === wanted ? value : keptValue(value, has, wanted);
    case "shortened":
      return has === "VARCHAR" && wanted === "VARCHAR" ? `left(${value}, ${lengthOf(column)})` : null;
    case "boolean-to-number":
      return has === "BOOLEAN" && isInteger(wanted) ? cast : null;
    case "decimals":
      return (isInteger(has) || isDecimal(has)) && isDecimal(wanted) ? cast : null;
    case "midnight":
      return has === "DATE" && wanted === "TIMESTAMP" ? cast : null;
    case "utc-added":
    case "utc-removed":
      return has.startsWith("TIMESTAMP") && wanted.startsWith("TIMESTAMP") ? cast : null;
  }
}

const isInteger = (type: string): boolean => /^(?:U?(?:TINY|SMALL|BIG|HUGE)?INT|U?INTEGER)$/.test(type);
const isDecimal = (type: string): boolean => type.startsWith("DECIMAL");

function keptValue(value: string, has: string, wanted: string): string | null {
  const cast = `CAST(${value} AS ${wanted})`;
  if (isInteger(has) && (isInteger(wanted) || isDecimal(wanted))) return cast;
  if (isDecimal(has) && (isDecimal(wanted) || (isInteger(wanted) && has.endsWith(",0)")))) return cast;
  if (has === "VARCHAR" && isDecimal(wanted)) return cast;
  if (wanted !== "VARCHAR") return null;
  if (isInteger(has) || isDecimal(has) || ["BOOLEAN", "UUID", "TIME"].includes(has)) return cast;
  // PostgreSQL writes the era at the end.
  if (has === "DATE") return `replace(${cast}, '(BC)', 'BC')`;
  if (has === "TIMESTAMP") return `CASE WHEN ${cast} LIKE '% (BC)%' THEN replace(${cast}, ' (BC)', '') || ' BC' ELSE ${cast} END`;
  return null;
}
