import type { TableName } from "@cascade/shared/topic";
import type { ChangedIndex, ChangedTable } from "../dialects/duckdb-changes.ts";
import { quote } from "../dialects/sql.ts";
import { foldAscii } from "../dialects/table-names.ts";
import type { SchemaStep } from "../schema-change.ts";
import type { DuckdbRow, DuckdbSession } from "./duckdb-session.ts";
import { findTable } from "./duckdb-tables.ts";

/** What of the user's own keeps the table from being altered at all. */
export interface FoundChangedTable extends ChangedTable {
  readonly unalterable: readonly string[];
}

const OF_TABLE = "database_name = current_database() AND lower(schema_name) = lower($1) AND lower(table_name) = lower($2)";
const CONSTRAINTS = `SELECT constraint_type AS kind, constraint_text AS text, constraint_column_names AS columns FROM duckdb_constraints()
  WHERE ${OF_TABLE}`;
const POINTING = `SELECT 1 FROM duckdb_constraints()
  WHERE database_name = current_database() AND constraint_type = 'FOREIGN KEY' AND lower(schema_name) = lower($1) AND lower(referenced_table) = lower($2)`;
const INDEXES = `SELECT index_name AS name, is_unique, expressions::VARCHAR[] AS parts FROM duckdb_indexes() WHERE ${OF_TABLE}`;
const DEFAULTS = `SELECT column_name AS name, column_default AS given FROM duckdb_columns() WHERE ${OF_TABLE}`;

/** A table that is to be changed; null when it is not there. To be called in a transaction. */
export async function findChangedTable(
  session: DuckdbSession,
  named: TableName,
  sqlName: string,
  steps: readonly SchemaStep[],
): Promise<FoundChangedTable | null> {
  const found = await findTable(session, named, { sqlName, key: [] });
  if (found === null || !found.isTable) return null;
  const ask = (text: string) => session.rows(text, [named.schema, named.table]);
  const constraints = await ask(CONSTRAINTS);
  const defaults = new Map((await ask(DEFAULTS)).map(({ name, given }) => [String(name), given === null ? null : String(given)]));
  const ofKind = (kind: string) => constraints.filter((row) => row["kind"] === kind).map((row) => textsOf(row["columns"]));
  const generated = found.columns.filter((column) => column.generated);
  return {
    sqlName,
    columns: found.columns.map((column) => ({ ...column, default: defaults.get(column.name) ?? null })),
    indexes: (await ask(INDEXES)).map(indexOf),
    uniques: ofKind("UNIQUE"),
    primaryKey: ofKind("PRIMARY KEY")[0] ?? [],
    hasForeignKeys: ofKind("FOREIGN KEY").length > 0 || (await ask(POINTING)).length > 0,
    isEmpty: (await session.rows(`SELECT 1 FROM ${sqlName} LIMIT 1`)).length === 0,
    withNulls: await columnsWithNulls(session, sqlName, found.columns, steps),
    unalterable: [
      ...generated.map(({ name }) => `column ${quote(name)} is generated`),
      ...constraints.filter((row) => row["kind"] === "CHECK").map(({ text }) => String(text)),
    ],
  };
}

const indexOf = (row: DuckdbRow): ChangedIndex => ({
  name: String(row["name"]),
  isUnique: row["is_unique"] === true,
  parts: textsOf(row["parts"]),
});

const textsOf = (list: unknown): readonly string[] => (Array.isArray(list) ? list.map(String) : []);

async function columnsWithNulls(
  session: DuckdbSession,
  sqlName: string,
  columns: readonly { readonly name: string }[],
  steps: readonly SchemaStep[],
): Promise<ReadonlySet<string>> {
  const renames = steps.flatMap((step) => (step.kind === "rename-columns" ? step.renames : []));
  const oldNames = new Map(renames.map(({ from, to }) => [to, from]));
  const withNulls = new Set<string>();
  for (const step of steps) {
    if (step.kind !== "set-not-null") continue;
    const name = foldAscii(oldNames.get(step.column.name) ?? step.column.name);
    if (!columns.some((column) => foldAscii(column.name) === name)) continue;
    const rows = await session.rows(`SELECT 1 FROM ${sqlName} WHERE ${quote(name)} IS NULL LIMIT 1`);
    if (rows.length > 0) withNulls.add(name);
  }
  return withNulls;
}
