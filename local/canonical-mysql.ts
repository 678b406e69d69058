import { type Connection, createConnection } from "mariadb";
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

/** MySQL and MariaDB, by a mysql:// or mariadb:// URL. */
export async function openMysqlReader(url: string): Promise<RowReader> {
  const { hostname, port, username, password, pathname } = new URL(url);
  const connection = await createConnection({
    host: hostname,
    port: Number(port || 3306),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database: decodeURIComponent(pathname.slice(1)),
    dateStrings: true,
  });
  // Rows are put in order by their values, not by the first kilobyte of them.
  await connection.query(
    "SET SESSION max_sort_length = 200000, sort_buffer_size = 268435456, time_zone = '+00:00', sql_mode = ''",
  );
  return {
    rows: async (table) => {
      const columns = await columnsOf(connection, table);
      return unreadable(table, [...columns.keys()]) ?? readRows(connection, table, columns);
    },
    [Symbol.asyncDispose]: () => connection.end(),
  };
}

/** contract.md §4: there are no schemas. */
const nameOf = ({ schema, name }: CanonicalTable): string => (schema === "public" ? name : `${schema}_${name}`);

/** Types by column name. */
async function columnsOf(connection: Connection, table: CanonicalTable): Promise<ReadonlyMap<string, string>> {
  const rows = await connection.query<readonly { readonly name: string; readonly type: string }[]>(
    "SELECT COLUMN_NAME AS name, DATA_TYPE AS type FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND BINARY TABLE_NAME = ?",
    [nameOf(table)],
  );
  return new Map(rows.map(({ name, type }) => [name, type]));
}

async function* readRows(
  connection: Connection,
  table: CanonicalTable,
  types: ReadonlyMap<string, string>,
): AsyncGenerator<CanonicalRow> {
  const values = table.columns.map((column, at) => `${textOf(column, types)} AS c${at}`).join(", ");
  const order = orderColumns(table).map((column) => orderOf(column, types));
  const text = `SELECT ${values} FROM ${quoted(nameOf(table))} ORDER BY ${order.join(", ")}`;
  for await (const found of connection.queryStream({ sql: text, rowsAsArray: true })) {
    const row = found as readonly (string | Buffer | null)[];
    yield table.columns.map(({ kind }, at) => canonical(kind, row[at] ?? null));
  }
}

function canonical(kind: CanonicalColumn["kind"], value: string | Buffer | null): string | null {
  if (value === null) return null;
  if (typeof value !== "string") return value.toString(kind === "bytea" ? "hex" : "utf8");
  return isFloat(kind) ? canonicalFloat(value, kind) : value;
}

function textOf({ name, kind }: CanonicalColumn, types: ReadonlyMap<string, string>): string {
  const column = quoted(name);
  const type = types.get(name) ?? "";
  // Not as hexadecimal: the server makes what is longer than max_allowed_packet NULL.
  if (kind === "bytea") return column;
  if (kind === "boolean" && type === "tinyint")
    return `CASE ${column} WHEN 0 THEN 'false' WHEN 1 THEN 'true' ELSE CAST(${column} AS CHAR) END`;
  // PostgreSQL's fractions of a second end with the last digit that is none of nought.
  if (type === "time" || type === "datetime") return `TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(${column} AS CHAR)))`;
  return /text|char/.test(type) ? column : `CAST(${column} AS CHAR)`;
}

/** NULL comes first by itself. */
function orderOf(column: CanonicalColumn, types: ReadonlyMap<string, string>): string {
  const value = quoted(column.name);
  switch (column.kind) {
    case "integer":
      return `CAST(${value} AS SIGNED)`;
    case "float":
    case "real":
      return `CASE ${value} WHEN 'NaN' THEN 3 WHEN 'Infinity' THEN 2 WHEN '-Infinity' THEN 0 ELSE IF(${value} IS NULL, NULL, 1) END, CAST(${value} AS DOUBLE)`;
    default:
      return `CAST(${textOf(column, types)} AS BINARY)`;
  }
}

const quoted = (name: string): string => `\`${name.replaceAll("`", "``")}\``;
