import { Database } from "bun:sqlite";
import { test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { SQL } from "bun";
import { Client } from "pg";
import { moreChanges, startLoad } from "../load.ts";
import { retrying } from "../refusals.ts";
import { openFaultLab } from "./lab.ts";

/** A replica that is there and takes nothing: it says why, and catches up once it takes rows again. */

test("tables are locked for long on PostgreSQL, MariaDB and SQLite", async () => {
  const engines = ["postgres", "mariadb", "sqlite"] as const;
  await using lab = await openFaultLab({ name: "faults_locks", engines, schema: createDemoSchema });
  const { pipeline } = lab;
  await (await lab.cdc()).ready();
  await Promise.all(engines.map((engine) => lab.router(engine)));
  const before = startLoad(pipeline.mainUrl, { seed: 8, changesPerSecond: 300 });
  await moreChanges(before, 200);
  await before.stop();
  await pipeline.expectEqual(); // every table is there, to be locked
  const load = startLoad(pipeline.mainUrl, { seed: 80, changesPerSecond: 300 });
  const urlOf = (engine: string): string => pipeline.replicas.find(({ name }) => name === engine)?.url ?? "";
  const postgres = new Client({ connectionString: urlOf("postgres") });
  postgres.on("error", () => {}); // a test that fails elsewhere takes the database away
  await postgres.connect();
  await postgres.query("BEGIN; LOCK TABLE public.orders IN ACCESS EXCLUSIVE MODE");
  const mariadb = new SQL(urlOf("mariadb"), { max: 1 });
  await mariadb.unsafe("LOCK TABLES orders WRITE");
  const sqlite = new Database(urlOf("sqlite").slice("sqlite://".length));
  sqlite.run("BEGIN IMMEDIATE");
  await moreChanges(load, 1_500);
  await postgres.end();
  await mariadb.close();
  sqlite.close();
  await moreChanges(load, 100);
  await load.stop();
  await pipeline.expectEqual();
}, 120_000);

test("a replica at its limit of connections is waited for", async () => {
  await using lab = await openFaultLab({ name: "faults_full", engines: ["postgres"], schema: createDemoSchema });
  const { pipeline } = lab;
  const { replicaServer: server, name } = pipeline;
  await server.query("postgres", `DROP ROLE IF EXISTS ${name}`);
  await server.query("postgres", `CREATE ROLE ${name} LOGIN PASSWORD 'pa55' CONNECTION LIMIT 0`);
  try {
    await server.query("postgres", `ALTER DATABASE ${name} OWNER TO ${name}`);
    await (await lab.cdc()).ready();
    const url = pipeline.replicas[0]?.url ?? "";
    const router = await lab.router("postgres", { replicaUrl: url.replace(/\/\/[^@]*@/, `//${name}:pa55@`) });
    await retrying(router, "REPLICA_FULL");
    const load = startLoad(pipeline.mainUrl, { seed: 9, changesPerSecond: 300 });
    await moreChanges(load, 100);
    await server.query("postgres", `ALTER ROLE ${name} CONNECTION LIMIT -1`);
    await router.ready();
    await load.stop();
    await pipeline.expectEqual();
  } finally {
    await server.query("postgres", `ALTER DATABASE ${name} OWNER TO CURRENT_USER`);
    await server.query(name, `REASSIGN OWNED BY ${name} TO CURRENT_USER; DROP OWNED BY ${name}; DROP ROLE ${name}`);
  }
}, 120_000);
