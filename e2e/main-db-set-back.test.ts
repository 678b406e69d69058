import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalPostgres, startPostgres } from "@cascade/local/postgres.ts";
import { until } from "@cascade/local/wait.ts";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { refusal } from "./refusals.ts";

/** main-db is another one, or an older state of itself, under the same address: new changes would look like old ones to routers. */

setDefaultTimeout(180_000);

const kept: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of kept.splice(0).reverse()) await cleanUp();
});

const ENV = { CDC_HEARTBEAT_INTERVAL_MS: "200" };
const RESNAPSHOT = { ...ENV, CDC_ON_SLOT_LOST: "resnapshot" };
const SETUP = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'first' FROM generate_series(1, 1000) AS n";

async function ownServer(): Promise<LocalPostgres> {
  const dir = mkdtempSync(join(tmpdir(), "cascade-set-back-"));
  const server = await startPostgres({ dir, settings: { fsync: "off", full_page_writes: "off" }, removeWhenOrphaned: true });
  kept.push(async () => {
    await server.kill();
    rmSync(server.dir, { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  });
  return server;
}

async function pipelineOf(name: string): Promise<Pipeline> {
  const pipeline = await openPipeline({ name, engines: ["postgres"], schema: async () => undefined });
  kept.push(() => pipeline[Symbol.asyncDispose]());
  await pipeline.router("postgres");
  return pipeline;
}

/** With owners and modes: the folder is the server's user's. */
async function copyInto(from: string, to: string): Promise<void> {
  const copying = Bun.spawn(["sh", "-c", 'rm -rf "$2" && cp -a "$1" "$2"', "sh", from, to]);
  expect(await copying.exited).toBe(0);
}

const ROWS = "SELECT id, v FROM t ORDER BY id";

async function equal(main: LocalPostgres, { replicaServer, name }: Pipeline): Promise<boolean> {
  const [rows, copied] = [await main.query(name, ROWS), await replicaServer.query(name, ROWS).catch(() => null)];
  return JSON.stringify(rows) === JSON.stringify(copied);
}

/** Replicated until they are equal, and until a heartbeat was published after that. */
async function replicated(main: LocalPostgres, pipeline: Pipeline, env: Readonly<Record<string, string>>): Promise<string> {
  const cdc = await pipeline.cdc({ databaseUrl: main.url(pipeline.name), env });
  await cdc.ready();
  expect(await until(() => equal(main, pipeline), 60_000)).toBe(true);
  await Bun.sleep(1_500);
  const log = cdc.log();
  await cdc.stop();
  return log;
}

test("an older copy of main-db that has gone on is noticed by the heartbeats it lacks, and repaired", async () => {
  const pipeline = await pipelineOf("set_back");
  const main = await ownServer();
  await main.createDatabase(pipeline.name);
  await main.query(pipeline.name, SETUP);
  await replicated(main, pipeline, ENV);
  await main.kill("SIGINT");
  const backup = `${main.dir}-backup`;
  await copyInto(main.dir, backup);
  kept.push(() => rmSync(backup, { recursive: true, force: true }));
  await main.start();
  await main.query(
    pipeline.name,
    "UPDATE t SET v = 'lost' WHERE id <= 100; INSERT INTO t VALUES (5000, 'lost'); DELETE FROM t WHERE id > 990 AND id < 1001",
  );
  await replicated(main, pipeline, ENV);
  await main.kill("SIGINT");
  await copyInto(backup, main.dir);
  await main.start();
  await main.query(
    pipeline.name,
    "CREATE TABLE more (id int PRIMARY KEY, v text); INSERT INTO more SELECT n, repeat('x', 200) FROM generate_series(1, 20000) AS n",
  );
  await main.query(pipeline.name, "UPDATE t SET v = 'second' WHERE id BETWEEN 50 AND 60");
  const [finding] = await refusal(await pipeline.cdc({ databaseUrl: main.url(pipeline.name), env: ENV }));
  expect(finding).toMatchObject({ code: "MAIN_DB_SET_BACK", msg: expect.stringContaining("does not hold the heartbeat") });
  expect(await replicated(main, pipeline, RESNAPSHOT)).toContain("MAIN_DB_SET_BACK");
  expect(await pipeline.replicaServer.query(pipeline.name, "SELECT 1 FROM t WHERE v = 'lost'")).toEqual([]);
});

test("another server under the same address is noticed, though it has a slot of that name", async () => {
  const pipeline = await pipelineOf("replaced");
  const [main, other] = [await ownServer(), await ownServer()];
  for (const server of [main, other]) await server.createDatabase(pipeline.name);
  await main.query(pipeline.name, SETUP);
  await replicated(main, pipeline, ENV);
  await other.query(
    pipeline.name,
    "CREATE TABLE filler (id int); INSERT INTO filler SELECT n FROM generate_series(1, 1000) AS n; DROP TABLE filler",
  );
  await other.query(
    pipeline.name,
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'other' FROM generate_series(500, 1500) AS n",
  );
  await other.query(pipeline.name, "SELECT pg_create_logical_replication_slot($1, 'wal2json')", [pipeline.name]);
  const [finding] = await refusal(await pipeline.cdc({ databaseUrl: other.url(pipeline.name), env: ENV }));
  expect(finding).toMatchObject({ code: "MAIN_DB_REPLACED" });
  await replicated(other, pipeline, RESNAPSHOT);
});
