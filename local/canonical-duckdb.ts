import type { DuckDBConnection } from "@duckdb/node-api";
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
import { openDuckdbFile } from "./duckdb-file.ts";

export async function openDuckdbReader(url: string): Promise<RowReader> {
  const file = await openDuckdbFile(url);
  const connection = await file.instance.connect();
  await connection.run("SET TimeZone = 'UTC'");
  return {
    rows: async (table) => {
      const columns = await columnsOf(connection, table);
      return unreadable(table, [...columns.keys()]) ?? readRows(connection, table, columns);
    },
    [Symbol.asyncDispose]: async () => {
      connection.closeSync();
      file[Symbol.dispose]();
    },
  };
}

/** Before every text that is read: the client drops a byte order mark at its beginning. */
const MARK = "=";

/** Types by the names in lower case, as `unreadable` compares them. */
type Types = ReadonlyMap<string, string>;

async function columnsOf(connection: DuckDBConnection, { schema, name }: CanonicalTable): Promise<Types> {
  const text = `SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()
    AND lower(schema_name) = lower($1) AND lower(table_name) = lower($2)`;
  const found = await connection.runAndReadAll(text, [schema, name]);
  return new Map(found.getRowsJson().map(([column, type]) => [String(column).toLowerCase(), String(type)]));
}

async function* readRows(connection: DuckDBConnection, table: CanonicalTable, types: Types): AsyncGenerator<CanonicalRow> {
  const database = String((await connection.runAndReadAll("SELECT current_database()")).getRowsJson()[0]?.[0]);
  const result = await connection.stream(selectText(database, table, types));
  for await (const rows of result.yieldRowsJson()) {
    for (const row of rows) {
      yield table.columns.map(({ kind }, at) => {
        const marked = row[at] ?? null;
        if (marked === null) return null;
        const value = String(marked).slice(MARK.length);
        return isFloat(kind) ? canonicalFloat(value, kind) : value;
      });
    }
  }
}

function selectText(database: string, table: CanonicalTable, types: Types): string {
  const typeOf = ({ name }: CanonicalColumn): string => types.get(name.toLowerCase()) ?? "VARCHAR";
  const values = table.columns.map((column) => `'${MARK}' || ${textOf(column, typeOf(column))}`).join(", ");
  const order = orderColumns(table).map((column) => `${orderOf(column, typeOf(column))} NULLS FIRST`);
  // With the database's name: a schema may have the same.
  const from = [database, table.schema, table.name].map(quoted).join(".");
  return `SELECT ${values} FROM ${from} ORDER BY ${order.join(", ")}`;
}

function orderOf(column: CanonicalColumn, type: string): string {
  if (column.kind === "integer") return `CAST(${quoted(column.name)} AS HUGEINT)`;
  if (isFloat(column.kind)) return `CAST(${quoted(column.name)} AS DOUBLE)`;
  return textOf(column, type);
}

/** As PostgreSQL writes it. */
function textOf({ name }: CanonicalColumn, type: string): string {
  const column = quoted(name);
  const text = `CAST(${column} AS VARCHAR)`;
  // DuckDB puts the era behind the date, PostgreSQL behind all.
  const eraLast = (value: string) =>
    `CASE WHEN ${value} LIKE '% (BC)%' THEN replace(${value}, ' (BC)', '') || ' BC' ELSE ${value} END`;
  if (type === "BLOB") return `lower(hex(${column}))`;
  if (type === "FLOAT" || type === "DOUBLE") return `replace(replace(${text}, 'inf', 'Infinity'), 'nan', 'NaN')`;
  if (type.startsWith("DECIMAL")) return `regexp_replace(${text}, '^(-?)[.]', '\\10.')`;
  if (type === "DATE" || type === "TIMESTAMP") return eraLast(text);
  if (type === "TIMESTAMP WITH TIME ZONE") {
    // Not by its own text, which rounds the years near DuckDB's end.
    const utc = `CAST(make_timestamp(epoch_us(${column})) AS VARCHAR) || '+00'`;
    return `CASE WHEN isinf(${column}) THEN ${text} ELSE ${eraLast(utc)} END`;
  }
  return text;
}

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
