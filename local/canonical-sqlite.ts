import { Database } from "bun:sqlite";
import type { RowReader } from "./canonical-state.ts";
import {
  type CanonicalColumn,
  type CanonicalRow,
  type CanonicalTable,
  canonicalFloat,
  isFloat,
  orderColumns,
  unreadable,
} from "./canonical-value.ts";

export async function openSqliteReader(url: string): Promise<RowReader> {
  const path = decodeURIComponent(url.slice("sqlite:".length).replace(/^\/\/\//, "/"));
  const database = new Database(path, { readonly: true });
  database.run("PRAGMA busy_timeout = 10000");
  return {
    rows: async (table) => unreadable(table, columnsOf(database, table)) ?? readRows(database, table),
    [Symbol.asyncDispose]: async () => database.close(),
  };
}

/** contract.md §4: SQLite has no schemas. */
const nameOf = ({ schema, name }: CanonicalTable): string => (schema === "public" ? name : `${schema}_${name}`);

function columnsOf(database: Database, table: CanonicalTable): readonly string[] {
  const columns = database.query<{ name: string }, [string]>("SELECT name FROM pragma_table_xinfo(?)").all(nameOf(table));
  return columns.map((column) => column.name);
}

async function* readRows(database: Database, table: CanonicalTable): AsyncGenerator<CanonicalRow> {
  const statement = database.prepare<Record<string, string | number | null>, []>(selectText(table));
  const names = table.columns.map((_, at) => `c${at}`);
  try {
    for (const row of statement.iterate()) {
      yield names.map((name, at) => {
        const value = row[name] ?? null;
        const kind = table.columns[at]?.kind;
        return value === null ? null : isFloat(kind) ? canonicalFloat(value, kind) : String(value);
      });
    }
  } finally {
    statement.finalize();
  }
}

/** With the table's name everywhere: SQLite takes a lone "name" that is no column for a string. */
function selectText(table: CanonicalTable): string {
  const from = quoted(nameOf(table));
  const values = table.columns.map((column, at) => `${textOf(from, column)} AS c${at}`).join(", ");
  const order = orderColumns(table).map((column) => `${orderOf(from, column)} NULLS FIRST`);
  return `SELECT ${values} FROM ${from} ORDER BY ${order.join(", ")}`;
}

function orderOf(table: string, column: CanonicalColumn): string {
  const value = `${table}.${quoted(column.name)}`;
  if (column.kind === "integer") return `CAST(${value} AS INTEGER)`;
  if (isFloat(column.kind)) return `${value} = 'NaN' NULLS FIRST, CAST(${value} AS REAL)`;
  return `${textOf(table, column)} COLLATE BINARY`;
}

function textOf(table: string, { name, kind }: CanonicalColumn): string {
  const column = `${table}.${quoted(name)}`;
  switch (kind) {
    case "float":
    case "real":
      return column; // a number, or the text of one
    case "bytea":
      // hex(NULL) is an empty text.
      return `CASE WHEN ${column} IS NOT NULL THEN lower(hex(${column})) END`;
    case "boolean":
      return `CASE ${column} WHEN 0 THEN 'false' WHEN 1 THEN 'true' ELSE CAST(${column} AS TEXT) END`;
    default:
      return `CAST(${column} AS TEXT)`;
  }
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
