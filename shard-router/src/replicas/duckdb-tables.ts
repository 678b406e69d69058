import type { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "../dialect.ts";
import { createDuckdbTable, duckdbDialect, duckdbTableName } from "../dialects/duckdb.ts";
import { quote } from "../dialects/sql.ts";
import { foldAscii } from "../dialects/table-names.ts";
import { isSameName } from "../schema-history.ts";
import { type FoundColumn, type FoundTable, misfitsOf } from "./duckdb-misfits.ts";
import { CREATE_TABLES, mayBeMade } from "./duckdb-remembered.ts";
import type { DuckdbSession } from "./duckdb-session.ts";
import { beingChanged, nameTaken, tableLost, tableMismatch } from "./table-mismatch.ts";

/** To be called in a transaction, before anything is prepared. */
export async function ensureTableNames(session: DuckdbSession): Promise<void> {
  for (const text of CREATE_TABLES) await session.run(text);
  await makeRoom(session);
}

async function makeRoom(session: DuckdbSession): Promise<void> {
  const [row] = await session.rows("SELECT count(*) AS tables FROM duckdb_tables()");
  await session.makeRoomFor(Number(row?.["tables"]));
}

/** The replica's table for the schema, made when missing. To be called in a transaction. */
export async function prepareDuckdbTable(
  session: DuckdbSession,
  schema: TableSchema,
  mayCreate: boolean,
  named: TableName = schema,
  revision?: number,
): Promise<ReplicaTable> {
  const columns = duckdbDialect.columnsOf(schema);
  await claimName(session, schema, named);
  const sqlName = await sqlNameOf(session, named);
  const found = await findTable(session, named, { sqlName, key: schema.key });
  if (found === null) {
    if (!mayCreate) throw tableLost(schema, sqlName, "cascade_progress");
    if (!(await mayBeMade(session, schema.oid, named, revision))) throw beingChanged(formatTableName(schema));
    for (const text of createDuckdbTable(schema, sqlName)) await session.run(text);
    await makeRoom(session);
    return { source: schema, sqlName, columns, referenced: false };
  }
  const misfits = misfitsOf(schema, sqlName, found);
  if (misfits.length > 0) throw tableMismatch(schema, sqlName, misfits);
  const types = new Map(found.columns.map(({ name, type }) => [foldAscii(name), type]));
  return {
    source: schema,
    sqlName,
    columns: columns.map(({ name, type }) => ({ name, type: types.get(foldAscii(name)) ?? type })),
    referenced: false,
  };
}

/** A schema with the name of a database of the file's session, its own among them, is found only by both names. */
export async function sqlNameOf(session: DuckdbSession, named: TableName): Promise<string> {
  const databases = await session.rows(
    "SELECT database_name AS name, database_name = current_database() AS own FROM duckdb_databases()",
  );
  const isDatabase = databases.some(({ name }) => foldAscii(String(name)) === foldAscii(named.schema));
  const own = databases.find((database) => database["own"] === true);
  return isDatabase ? `${quote(String(own?.["name"]))}.${duckdbTableName(named)}` : duckdbTableName(named);
}

const RESERVED_TABLES: ReadonlySet<string> = new Set([
  "cascade_progress",
  "cascade_replica",
  "cascade_tables",
  "cascade_held_keys",
  "cascade_shard",
]);
const RESERVED_SCHEMAS: ReadonlySet<string> = new Set(["information_schema", "pg_catalog"]);

const FOLDED = "there: DuckDB takes names that differ by case for one";

/** `by`: who has the name that the table shall have. */
export const takenName = (schema: TableSchema, named: TableName, by: string): CascadeError =>
  nameTaken(schema, { sqlName: duckdbTableName(named), place: "the DuckDB file", by: `${by} ${FOLDED}`, another: "a file" });

async function claimName(session: DuckdbSession, schema: TableSchema, named: TableName): Promise<void> {
  const name = [foldAscii(named.schema), foldAscii(named.table)] as const;
  const isReserved = RESERVED_SCHEMAS.has(name[0]) || (name[0] === "main" && RESERVED_TABLES.has(name[1]));
  if (isReserved) throw takenName(schema, named, "a reserved name");
  await session.run(
    "INSERT INTO main.cascade_tables (schema_name, table_name, source_schema, source_table) VALUES ($1, $2, $3, $4) ON CONFLICT (schema_name, table_name) DO NOTHING",
    [...name, schema.schema, schema.table],
  );
  const [owner] = await session.rows(
    "SELECT source_schema, source_table, oid FROM main.cascade_tables WHERE schema_name = $1 AND table_name = $2",
    name,
  );
  const other = { schema: String(owner?.["source_schema"]), table: String(owner?.["source_table"]) };
  if (owner?.["oid"] !== null && Number(owner?.["oid"]) === schema.oid) return;
  // Of a table that came to nothing, or that an older Cascade made.
  const isClaim = owner?.["oid"] === null && isSameName(other, named);
  if (!isClaim && !isSameName(other, schema)) throw takenName(schema, named, `the name of ${formatTableName(other)}`);
}

const FIND_TABLE = `SELECT table_name AS name, 'table' AS kind FROM duckdb_tables() WHERE database_name = current_database() AND lower(schema_name) = lower($1) AND lower(table_name) = lower($2)
  UNION ALL SELECT view_name, 'view' FROM duckdb_views() WHERE database_name = current_database() AND NOT internal AND lower(schema_name) = lower($1) AND lower(view_name) = lower($2)`;
const FIND_COLUMNS = `SELECT column_name AS name, data_type AS type, NOT is_nullable AS not_null, column_default IS NOT NULL AS has_default
  FROM duckdb_columns() WHERE database_name = current_database() AND lower(schema_name) = lower($1) AND table_name = $2 ORDER BY column_index`;

/** `key`: names of the columns that rows are found by. */
export async function findTable(
  session: DuckdbSession,
  named: TableName,
  { sqlName, key }: { readonly sqlName: string; readonly key: readonly string[] },
): Promise<FoundTable | null> {
  // DuckDB's own lower() also folds letters that its names keep apart.
  const candidates = await session.rows(FIND_TABLE, [named.schema, named.table]);
  const found = candidates.find(({ name }) => foldAscii(String(name)) === foldAscii(named.table));
  if (found === undefined) return null;
  if (found["kind"] !== "table") return { isTable: false, columns: [], hasKey: false };
  const columns: FoundColumn[] = [];
  for (const row of await session.rows(FIND_COLUMNS, [named.schema, String(found["name"])])) {
    const name = String(row["name"]);
    columns.push({
      name,
      type: String(row["type"]),
      notNull: row["not_null"] === true,
      hasDefault: row["has_default"] === true,
      generated: row["has_default"] === true && !(await session.takes(`INSERT INTO ${sqlName} (${quote(name)}) VALUES ($1)`)),
      collationIsExact: row["type"] !== "VARCHAR" || (await collationIsExact(session, sqlName, name)),
    });
  }
  return { isTable: true, columns, hasKey: await hasKey(session, key, sqlName, columns) };
}

/** The catalog shows no collations: a column's is what it makes of values that others would take for one. */
async function collationIsExact(session: DuckdbSession, sqlName: string, column: string): Promise<boolean> {
  const name = quote(column);
  const text = `SELECT ${name} = 'A' OR ${name} = 'á' AS same FROM (SELECT ${name} FROM ${sqlName} WHERE false UNION ALL SELECT 'a')`;
  return (await session.rows(text))[0]?.["same"] === false;
}

/** Whether ON CONFLICT finds a row by the key: DuckDB knows best. */
async function hasKey(
  session: DuckdbSession,
  key: readonly string[],
  sqlName: string,
  columns: readonly FoundColumn[],
): Promise<boolean> {
  const names = new Set(columns.map(({ name }) => foldAscii(name)));
  if (key.length === 0 || key.some((name) => !names.has(foldAscii(name)))) return false;
  const target = key.map(quote).join(", ");
  return session.takes(
    `INSERT INTO ${sqlName} (${target}) VALUES (${key.map((_, at) => `$${at + 1}`).join(", ")}) ON CONFLICT (${target}) DO NOTHING`,
  );
}
