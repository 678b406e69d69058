import { Database } from "bun:sqlite";
import { Catalog } from "@cascade/cdc/src/postgres/catalog.ts";
import { openSession } from "@cascade/cdc/src/postgres/session.ts";
import { openDuckdbFile } from "@cascade/local/duckdb-file.ts";
import { parseReplicaUrl } from "@cascade/shard-router/src/replicas/open-replica.ts";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import type { TableSchema } from "@cascade/shared/table-schema";
import * as mariadb from "mariadb";
import { ENGINES } from "./oracle/engines.ts";
import type { Engine } from "./pipeline.ts";

/** A replica's own tables in the engine's own words: `table.column` -> type, with whether it refuses NULL. */
export type Shape = ReadonlyMap<string, ShapeColumn>;

export interface ShapeColumn {
  readonly type: string;
  readonly notNull: boolean;
}

interface Row extends ShapeColumn {
  readonly table: string;
  readonly column: string;
}

/**
 * What a replica's tables look like otherwise than they would if they were made today from main-db's; empty when they are the same. A
 * column may take NULL where main-db's no longer does, for it takes every row all the same.
 */
export async function shapeDifferences(mainUrl: string, engine: Engine, url: string): Promise<readonly string[]> {
  const [wanted, found] = [await freshShape(mainUrl, engine), await shapeOf(engine, url)];
  const differences: string[] = [];
  for (const [name, { type, notNull }] of wanted) {
    const column = found.get(name);
    if (column === undefined) differences.push(`${engine}: ${name} is missing`);
    else if (column.type !== type) differences.push(`${engine}: ${name} is ${column.type}, and should be ${type}`);
    else if (column.notNull && !notNull) differences.push(`${engine}: ${name} refuses NULL`);
  }
  for (const name of found.keys()) if (!wanted.has(name)) differences.push(`${engine}: ${name} should not be there`);
  return differences;
}

async function freshShape(mainUrl: string, engine: Engine): Promise<Shape> {
  const fresh = await ENGINES.find(({ name }) => name === engine)?.empty(`shape_${engine}_${Date.now()}`);
  if (fresh === undefined) throw new Error(`no ${engine} here`);
  try {
    await using replica = await parseReplicaUrl(fresh.url).open();
    for (const schema of await capturedTables(mainUrl)) await replica.prepare(schema, true);
    await replica[Symbol.asyncDispose]();
    return await shapeOf(engine, fresh.url);
  } finally {
    await fresh.drop();
  }
}

export async function capturedTables(mainUrl: string): Promise<readonly TableSchema[]> {
  await using session = await openSession(mainUrl);
  const relations = await new Catalog(session.client, parseTableFilter("public.*"), "shape").captured();
  return [...new Map(relations.map(({ schema }) => [schema.oid, schema])).values()];
}

async function shapeOf(engine: Engine, url: string): Promise<Shape> {
  const rows = (await READERS[engine](url)).filter(({ table }) => !table.startsWith("cascade_"));
  return new Map(rows.map(({ table, column, type, notNull }) => [`${table}.${column}`, { type, notNull }]));
}

const READERS: Readonly<Record<Engine, (url: string) => Promise<readonly Row[]>>> = {
  postgres: async (url) => {
    await using session = await openSession(url);
    const { rows } = await session.client.query<Row>(
      `SELECT c.relname AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS "notNull"
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'`,
    );
    return rows;
  },
  mariadb: async (url) => {
    const connection = await mariadb.createConnection(url);
    try {
      const rows: readonly (Omit<Row, "notNull"> & { readonly nullable: string })[] = await connection.query(
        `SELECT table_name AS \`table\`, column_name AS \`column\`, concat_ws(' ', column_type, collation_name) AS type, is_nullable AS nullable
           FROM information_schema.columns WHERE table_schema = database()`,
      );
      return rows.map(({ nullable, ...row }) => ({ ...row, notNull: nullable === "NO" }));
    } finally {
      await connection.end();
    }
  },
  sqlite: async (url) => {
    using database = new Database(url.slice("sqlite://".length), { readonly: true });
    const rows = database
      .query<{ readonly table: string; readonly column: string; readonly type: string; readonly notnull: number }, []>(
        `SELECT t.name AS "table", c.name AS "column", c.type, c."notnull" FROM sqlite_schema t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'`,
      )
      .all();
    return rows.map(({ notnull, ...row }) => ({ ...row, notNull: notnull === 1 }));
  },
  duckdb: async (url) => {
    using file = await openDuckdbFile(url);
    const connection = await file.instance.connect();
    const reader = await connection.runAndReadAll(
      `SELECT table_name AS "table", column_name AS "column", data_type AS type, is_nullable = 'NO' AS "notNull"
         FROM information_schema.columns WHERE table_schema = 'public'`,
    );
    connection.closeSync();
    return reader.getRowObjects() as unknown as readonly Row[];
  },
};
