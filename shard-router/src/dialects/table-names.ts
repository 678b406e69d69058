import { type CascadeError, UnsupportedValueError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";

/** Names of tables and columns as engines see them, and tables that an engine cannot have. */

/** On engines without schemas. Two tables that get the same name are told apart, and the second refused, by the replica. */
export const flatTableName = ({ schema, table }: TableName): string => (schema === "public" ? table : `${schema}_${table}`);

/** As SQLite and DuckDB compare names: without regard to the case of ASCII letters. */
export const foldAscii = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

export function unsupportedTable(
  schema: TableSchema,
  reason: string,
  advice = `exclude it: ROUTER_TABLES=...,!${formatTableName(schema)}`,
): CascadeError {
  return new UnsupportedValueError({
    code: "UNSUPPORTED_TABLE",
    verdict: "stop-table",
    message: `table ${formatTableName(schema)} ${reason}`,
    advice,
  });
}

/** The schema's columns by their folded names. Throws UNSUPPORTED_TABLE when there are none, or two that the engine takes for one. */
export function columnsByFoldedName(
  schema: TableSchema,
  engine: string,
  fold: (name: string) => string,
  advice?: string,
): ReadonlyMap<string, string> {
  if (schema.columns.length === 0) throw unsupportedTable(schema, "has no columns", advice);
  const seen = new Map<string, string>();
  for (const { name } of schema.columns) {
    const other = seen.get(fold(name));
    if (other !== undefined)
      throw unsupportedTable(schema, `has columns ${other} and ${name}, which ${engine} takes for one`, advice);
    seen.set(fold(name), name);
  }
  return seen;
}
