import { expect, test } from "bun:test";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { testMariadb } from "@cascade/local/servers.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import type { TableDialect, TypeRow } from "@cascade/shard-router/src/types/type-row.ts";
import { TYPE_TABLE } from "@cascade/shard-router/src/types/type-table.ts";
import { DuckDBInstance } from "@duckdb/node-api";
import type { Client } from "pg";
import { type Engine, openPipeline, type Pipeline } from "../pipeline.ts";

/** P4: a value arrives exactly, or the table stops and says why. Every value of the type table, through the whole line. */

const ENGINES: readonly Engine[] = ["postgres", ...(findMariadb() === null ? [] : (["mariadb"] as const)), "sqlite", "duckdb"];
const DIALECT: Readonly<Record<Engine, TableDialect>> = {
  postgres: "postgres",
  mariadb: "mysql",
  sqlite: "sqlite",
  duckdb: "duckdb",
};

/** Every declared type of the table, its literals that all of the engines take, and those that some refuse. */
const COLUMNS = TYPE_TABLE.flatMap((row) =>
  Object.keys(row.types).map((type, at) => ({ name: `${type.replace(/\W+/g, "_")}_${at}_${row.types[type]}`, type, row })),
);
const refusedBy = ({ refused }: TypeRow, engines: readonly Engine[]): readonly string[] =>
  engines.flatMap((engine) => refused?.[DIALECT[engine]] ?? []);

/** The matrix: a column for each type, and in row n the n-th literal of each. */
async function makeMatrix(client: Client): Promise<void> {
  const columns = COLUMNS.map(({ name, type }) => `"${name}" ${type}`).join(", ");
  await client.query(`CREATE TABLE matrix (id integer PRIMARY KEY, ${columns});
    CREATE TYPE mood AS ENUM ('so so', 'it''s "ok"', '😀'); CREATE TYPE pair AS (a integer, b text);
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE DOMAIN small AS positive; CREATE DOMAIN list AS integer[];
    CREATE DOMAIN price AS numeric(10,2);
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION isn;
    CREATE TABLE own (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, ms mood[], p pair, d small, l list, c price, h hstore, ci citext,
      lt ltree, i isbn, twice integer GENERATED ALWAYS AS (d * 2) STORED);
    CREATE TABLE keys (a mood, b citext, c numeric, d bytea, v text, PRIMARY KEY (a, b, c, d));
    CREATE TABLE loud (id integer PRIMARY KEY, v numeric(12,4))`);
}

type Routers = Readonly<Record<"postgres" | "sqlite" | "duckdb", Service<RouterStatus>>> & {
  readonly mariadb?: Service<RouterStatus>;
};

async function startRouters(pipeline: Pipeline): Promise<Routers> {
  const [postgres, sqlite, duckdb] = [
    await pipeline.router("postgres"),
    await pipeline.router("sqlite"),
    await pipeline.router("duckdb"),
  ];
  return { postgres, sqlite, duckdb, ...(ENGINES.includes("mariadb") ? { mariadb: await pipeline.router("mariadb") } : {}) };
}

async function fillMatrix({ sql }: Pipeline): Promise<number> {
  const kept = COLUMNS.map(({ row }) => row.literals.filter((literal) => !refusedBy(row, ENGINES).includes(literal)));
  const rows = Math.max(...kept.map((literals) => literals.length));
  const names = COLUMNS.map(({ name }) => `"${name}"`).join(", ");
  const casts = COLUMNS.map(({ type }, at) => `$${at + 2}::text::${type}`);
  for (let id = 0; id < rows; id++) {
    const values = kept.map((literals) => literals[id] ?? null);
    await sql(`INSERT INTO matrix (id, ${names}) VALUES ($1, ${casts.join(", ")})`, [id, ...values]);
  }
  return rows;
}

test(
  "every type, every edge, every engine",
  async () => {
    await using pipeline = await openPipeline({ name: "p4_values", engines: ENGINES, schema: makeMatrix });
    const { sql } = pipeline;
    const cdc = await pipeline.cdc();
    await cdc.ready();
    await startRouters(pipeline);
    const rows = await fillMatrix(pipeline);
    await sql(`INSERT INTO own (m, ms, p, d, l, c, h, ci, lt, i) VALUES
      ('it''s "ok"', '{"so so",NULL}', '(1,"a ""q"", b")', 5, '[0:1]={1,2}', 12.3, '"a"=>"1", "b"=>NULL', 'Ab', 'Top.Science', '978-0-393-04002-9'),
      ('😀', '{}', NULL, 1, '{{1,2},{3,NULL}}', -0.5, '', 'a ', 'x', NULL)`);
    await sql(`INSERT INTO keys SELECT m, t, n, b, m || t FROM unnest(enum_range(NULL::mood)) m, unnest('{a,"a ",á}'::text[]) t,
      unnest('{0,1.50,-3}'::numeric[]) n, unnest('{"",\\\\x00ff}'::bytea[]) b`);
    await pipeline.expectEqual();

    // Every value replaced by its neighbour's, the key of every row moved, keys that look different and are one, values found again to go.
    const others = COLUMNS.map(({ name }) => `"${name}" = other."${name}"`).join(", ");
    await sql(`UPDATE matrix SET ${others} FROM matrix AS other WHERE other.id = (matrix.id + 1) % ${rows}`);
    await sql("UPDATE matrix SET id = id + 1000");
    await sql("UPDATE own SET d = d + 1, h = NULL WHERE id = 1");
    await sql("UPDATE keys SET c = 1.5, v = 'the key looks different' WHERE c = 1.50");
    await sql("UPDATE keys SET b = 'moved' WHERE b = 'á'");
    await sql("DELETE FROM keys WHERE c = -3 OR d = ''");
    await sql("DELETE FROM matrix WHERE id % 3 = 0");
    await pipeline.expectEqual();
  },
  { timeout: 180_000 },
);

test(
  "megabytes of text and bytes, left alone by updates of their rows",
  async () => {
    const schema = (client: Client) => client.query("CREATE TABLE blobs (id integer PRIMARY KEY, n integer, t text, b bytea)");
    await using pipeline = await openPipeline({ name: "p4_large", engines: ENGINES, schema });
    const { sql } = pipeline;
    const cdc = await pipeline.cdc();
    await cdc.ready();
    const routers = await startRouters(pipeline);
    // Random bytes, for TOAST to be of any use.
    await sql(`INSERT INTO blobs SELECT id, 0, repeat('é😀''"\\', 100000) || id, (SELECT string_agg(decode(md5((id * 1000000 + at)::text), 'hex'), '')
      FROM generate_series(1, 625000) AS at) FROM generate_series(1, 2) AS id`);
    await pipeline.expectEqual();
    await sql("UPDATE blobs SET n = n + 1");
    await sql("UPDATE blobs SET n = n + 1, id = id + 10 WHERE id = 2");
    await pipeline.expectEqual();
    expect((await routers.sqlite.status()).eventsTotal).toBeGreaterThan(4);
  },
  { timeout: 180_000 },
);

test.if(ENGINES.includes("mariadb"))(
  "what an engine cannot hold stops the table there, with the cure, and nowhere else; cured, it goes on by itself",
  async () => {
    await using pipeline = await openPipeline({ name: "p4_loud", engines: ENGINES, schema: makeMatrix });
    const { sql } = pipeline;
    const cdc = await pipeline.cdc();
    await cdc.ready();
    const routers = await startRouters(pipeline);
    await sql("INSERT INTO loud VALUES (1, 1.5), (2, 'NaN'), (3, 2.5)");
    await sql("INSERT INTO own (d) VALUES (1)");
    for (const engine of ["mariadb", "duckdb"] as const) {
      const held = async () => JSON.stringify(await routers[engine]?.status().catch(() => null));
      expect(await until(async () => (await held()).includes("UNSUPPORTED_VALUE"), 30_000)).toBe(true);
      const said = await held();
      expect(said).toContain("column v of table public.loud");
      expect(said).toContain(engine === "mariadb" ? "LONGTEXT" : "VARCHAR");
    }
    for (const engine of ["postgres", "sqlite"] as const) {
      expect(await until(async () => ((await routers[engine].status().catch(() => null))?.eventsTotal ?? 0) >= 4, 30_000)).toBe(
        true,
      );
    }
    const server = await testMariadb();
    await server?.query("p4_loud", "ALTER TABLE loud MODIFY v LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin");
    // DuckDB's file is its router's alone.
    await routers.duckdb.stop();
    const file = pipeline.replicas.find((replica) => replica.name === "duckdb")?.url.replace("duckdb://", "") ?? "";
    const instance = await DuckDBInstance.create(file);
    const connection = await instance.connect();
    await connection.run("ALTER TABLE public.loud ALTER COLUMN v TYPE VARCHAR");
    // An open connection keeps the file open, until both are collected, beside the router's.
    connection.closeSync();
    instance.closeSync();
    await pipeline.router("duckdb");
    await pipeline.expectEqual();
  },
  { timeout: 120_000 },
);
