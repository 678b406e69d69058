import type { ColumnSchema } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { type Conversion, lengthOf } from "../types/conversions.ts";
import type { MysqlType } from "./mysql-types.ts";

export interface Converted {
  /** SQL for the old value. */
  readonly value: string;
  /** The source's column before, and now. */
  readonly old: ColumnSchema;
  readonly column: ColumnSchema;
  /** The replica's column before, and to be. */
  readonly has: MysqlType;
  readonly wanted: MysqlType;
}

/** SQL for a value of the old column's as the new column has it; null when there is none. Strict mode refuses what does not fit. */
export function convertedValue(
  conversion: Conversion,
  { value, old, column, has, wanted }: Converted,
): string | "as it is" | null {
  switch (conversion) {
    case "kept":
      return keptValue(value, old, has, wanted);
    case "shortened":
      if (has.kind !== "text" || wanted.kind !== "text") return null;
      return `LEFT(${value}, ${lengthOf(column)})`;
    case "boolean-to-number":
      return has.kind === "integer" && wanted.kind === "integer" ? "as it is" : null;
    case "decimals":
      return (has.kind === "integer" || has.kind === "decimal") && wanted.kind === "decimal" ? "as it is" : null;
    case "midnight":
      return has.kind === "text" && wanted.kind === "text" ? beforeEra(value, " 00:00:00") : null;
    case "utc-added":
      return has.kind === "text" && wanted.kind === "text" ? beforeEra(value, "+00") : null;
    case "utc-removed":
      return has.kind === "text" && wanted.kind === "text" ? `REPLACE(${value}, '+00', '')` : null;
  }
}

function keptValue(value: string, old: ColumnSchema, has: MysqlType, wanted: MysqlType): string | "as it is" | null {
  if (has.kind === wanted.kind && has.kind !== null) return has.kind === "double" ? null : "as it is";
  if (wanted.kind === "decimal" && has.kind === "integer") return "as it is";
  if (wanted.kind === "integer" && has.kind === "decimal") return (has.size[1] ?? 0) === 0 ? "as it is" : null;
  if (wanted.kind !== "text") return null;
  switch (has.kind) {
    case "integer":
      return old.typeOid === PG_TYPE.bool ? `IF(${value}, 'true', IF(${value} IS NULL, NULL, 'false'))` : "as it is";
    case "decimal":
    case "date":
    case "uuid":
      return "as it is";
    case "time":
      return has.size[0] ? `TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(${value} AS CHAR)))` : "as it is";
    default:
      return null;
  }
}

/** PostgreSQL writes the era at the end, and nothing behind infinity. */
const beforeEra = (value: string, suffix: string): string =>
  `CASE WHEN ${value} LIKE '%infinity' THEN ${value} WHEN ${value} LIKE '% BC' THEN CONCAT(LEFT(${value}, CHAR_LENGTH(${value}) - 3), '${suffix} BC') ELSE CONCAT(${value}, '${suffix}') END`;
