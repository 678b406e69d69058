import { Client } from "pg";
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

const chunkRows = 2_000;

/** Makes every value's text independent of the server's and the role's settings. */
const sessionOptions =
  "-c bytea_output=hex -c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=1 -c client_encoding=UTF8";

export async function openPostgresReader(url: string): Promise<RowReader> {
  const client = new Client({ connectionString: url, options: sessionOptions, connectionTimeoutMillis: 10_000 });
  client.on("error", () => {});
  await client.connect();
  return {
    rows: async (table) => {
      const columns = await columnsOf(client, table);
      const names = columns.map(({ name }) => name);
      return unreadable(table, names) ?? readRows(client, table, columns[0]?.kind === "r");
    },
    [Symbol.asyncDispose]: () => client.end(),
  };
}

async function columnsOf(
  client: Client,
  { schema, name }: CanonicalTable,
): Promise<readonly { readonly name: string; readonly kind: string }[]> {
  const { rows } = await client.query<{ readonly name: string; readonly kind: string }>(
    `SELECT a.attname AS name, c.relkind AS kind FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped`,
    [schema, name],
  );
  return rows;
}

/** @param only without those of tables that inherit from it, which are tables of their own */
async function* readRows(client: Client, table: CanonicalTable, only: boolean): AsyncGenerator<CanonicalRow> {
  const floats = table.columns.flatMap(({ kind }, at) => (isFloat(kind) ? [{ at, kind }] : []));
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  try {
    await client.query(`DECLARE canonical NO SCROLL CURSOR FOR ${selectText(table, only)}`);
    for (;;) {
      const { rows } = await client.query<(string | null)[]>({ text: `FETCH ${chunkRows} FROM canonical`, rowMode: "array" });
      for (const row of rows) {
        for (const { at, kind } of floats) row[at] = row[at] == null ? null : canonicalFloat(row[at], kind);
        yield row;
      }
      if (rows.length < chunkRows) return;
    }
  } finally {
    await client.query("ROLLBACK");
  }
}

function selectText(table: CanonicalTable, only: boolean): string {
  const values = table.columns.map(textOf).join(", ");
  const order = orderColumns(table).map((column) => `${orderOf(column)} NULLS FIRST`);
  const from = `${only ? "ONLY " : ""}${quoted(table.schema)}.${quoted(table.name)}`;
  return `SELECT ${values} FROM ${from} ORDER BY ${order.join(", ")}`;
}

function orderOf(column: CanonicalColumn): string {
  switch (column.kind) {
    case "integer":
      return `${quoted(column.name)}::bigint`;
    case "float":
    case "real":
      return `${quoted(column.name)}::float8`;
    default:
      return `${textOf(column)} COLLATE "C"`;
  }
}

function textOf({ name, kind }: CanonicalColumn): string {
  const column = quoted(name);
  if (kind === "bytea") return `encode(${column}, 'hex')`;
  return kind === "printed" ? `CASE WHEN ${column} IS NOT NULL THEN concat(${column}) END` : `${column}::text`;
}

export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const capturedTables = `
  WITH RECURSIVE base(declared, type, parent) AS (
    SELECT oid, oid, typbasetype FROM pg_type
    UNION ALL
    SELECT base.declared, t.oid, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.parent)
  SELECT n.nspname AS schema, c.relname AS name,
         coalesce((SELECT array_agg(a.attname::text ORDER BY k.ord)
                     FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                    WHERE i.indrelid = c.oid AND k.ord <= i.indnkeyatts
                      AND CASE WHEN c.relreplident = 'i' THEN i.indisreplident ELSE i.indisprimary AND i.indimmediate END), '{}') AS key,
         coalesce((SELECT json_agg(json_build_object('name', a.attname, 'type', base.type::bigint) ORDER BY a.attnum)
                     FROM pg_attribute a JOIN base ON base.declared = a.atttypid AND base.parent = 0
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]') AS columns
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
   ORDER BY 1, 2`;

interface TableRow {
  readonly schema: string;
  readonly name: string;
  readonly key: readonly string[];
  readonly columns: readonly { readonly name: string; readonly type: number }[];
}

/** Every table that main-db has, partitions as their root. */
export async function readTables(mainUrl: string): Promise<readonly CanonicalTable[]> {
  const client = new Client({ connectionString: mainUrl });
  client.on("error", () => {});
  await client.connect();
  try {
    const { rows } = await client.query<TableRow>(capturedTables);
    return rows.map(({ schema, name, key, columns }) => {
      const inKey = key.flatMap((wanted) => columns.filter((column) => column.name === wanted));
      const others = columns.filter((column) => !key.includes(column.name));
      const ordered = [...inKey, ...others].map((column) => ({ name: column.name, kind: kindOf(column.type) }));
      return { schema, name, columns: ordered, keyLength: key.length };
    });
  } finally {
    await client.end();
  }
}

/** By pg_type's fixed OIDs. */
function kindOf(typeOid: number): CanonicalColumn["kind"] {
  switch (typeOid) {
    case 16:
      return "boolean";
    case 17:
      return "bytea";
    case 20:
    case 21:
    case 23:
      return "integer";
    case 700:
      return "real";
    case 701:
      return "float";
    case 142: // xml: its cast to text keeps a declaration that its output leaves out
    case 869: // inet: its cast to text adds the netmask of a single host
    case 1042: // char(n): its cast to text drops the blanks
      return "printed";
    default:
      return "text";
  }
}
