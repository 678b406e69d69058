import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isEqual } from "@cascade/local/canonical-state.ts";
import { untilCaughtUp } from "@cascade/local/catch-up.ts";
import { findNewerPostgres } from "@cascade/local/newer-postgres.ts";
import { type LocalPostgres, type PostgresOptions, startPostgres } from "@cascade/local/postgres.ts";
import type { CdcStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { repeat } from "./reconnecting.ts";
import { refusal } from "./refusals.ts";
import { openTcpProxy, type TcpProxy } from "./tcp-proxy.ts";
import { readTopic } from "./topics.ts";

/** main-db's host dies and a standby takes its place: PostgreSQL 17 has copied cdc's slot to it. Skipped where there is no such version. */

setDefaultTimeout(300_000);

const install = findNewerPostgres();
const STANDBY_SLOT = "standby";

const kept: (() => unknown)[] = [];
// They wait most of the time, so all run at once.
afterAll(async () => {
  for (const cleanUp of kept.splice(0).reverse()) await cleanUp();
});

async function server(options: Omit<PostgresOptions, "dir">): Promise<LocalPostgres> {
  if (install === null) throw new Error("skipped tests start no server");
  const dir = mkdtempSync(join(tmpdir(), "cascade-failover-"));
  const settings = { fsync: "off", full_page_writes: "off", ...options.settings };
  const postgres = await startPostgres({ ...options, dir, install, settings, removeWhenOrphaned: true });
  kept.push(async () => {
    await postgres.kill();
    for (const folder of [postgres.dir, dir]) rmSync(folder, { recursive: true, force: true });
  });
  return postgres;
}

interface Lab {
  readonly pipeline: Pipeline;
  readonly primary: LocalPostgres;
  readonly standby: LocalPostgres;
  /** Of main-db, whichever server that is. */
  readonly url: string;
  /** Lets the address lead to the standby. */
  readonly moveToStandby: () => Promise<void>;
}

async function labOf(name: string, primarySettings: Readonly<Record<string, string>>): Promise<Lab> {
  const pipeline = await openPipeline({ name, engines: ["postgres"], schema: async () => undefined });
  kept.push(() => pipeline[Symbol.asyncDispose]());
  const primary = await server({ settings: primarySettings });
  await primary.createDatabase(name);
  await primary.query(
    name,
    `CREATE TABLE accounts (id int PRIMARY KEY, n int NOT NULL, v text NOT NULL);
     CREATE TABLE entries (n int NOT NULL, v text NOT NULL); ALTER TABLE entries REPLICA IDENTITY FULL;
     INSERT INTO accounts SELECT id, 0, md5(id::text) FROM generate_series(1, 2000) AS id`,
  );
  await primary.query(name, "SELECT pg_create_physical_replication_slot($1, true)", [STANDBY_SLOT]);
  const standby = await server({ standbyOf: { port: primary.port, slot: STANDBY_SLOT } });
  let proxy: TcpProxy = await openTcpProxy(primary.port);
  kept.push(() => proxy[Symbol.asyncDispose]());
  const { port } = proxy;
  return {
    pipeline,
    primary,
    standby,
    url: primary.url(name).replace(/:\d+\//, `:${port}/`),
    moveToStandby: async () => {
      await proxy[Symbol.asyncDispose]();
      proxy = await openTcpProxy(standby.port, port);
    },
  };
}

const ENV = { CDC_HEARTBEAT_INTERVAL_MS: "200" };

/** What a standby says to whoever wants to write. */
const READ_ONLY = "25006";

/** Commits all the time, once main-db takes it. A table without a key shows what is there twice. */
const load = (url: string) => {
  let at = 0;
  return repeat(url, (client) => async () => {
    at++;
    const id = 1 + ((at * 7919) % 2_000);
    try {
      await client.query(`BEGIN; UPDATE accounts SET n = n + 1 WHERE id IN (${id}, ${1 + (id % 2_000)});
        INSERT INTO entries VALUES (${at}, 'entry ${at}'); DELETE FROM entries WHERE n = ${at - 300};
        ${at % 50 === 0 ? `ALTER TABLE accounts ADD COLUMN c${at} int DEFAULT ${at};` : ""} COMMIT`);
    } catch (error) {
      if ((error as { readonly code?: string }).code !== READ_ONLY) throw error;
      await client.query("ROLLBACK");
      await Bun.sleep(100);
      return false;
    }
    await Bun.sleep(5);
    return true;
  });
};

/** The standby has the slot, ready to be used: PostgreSQL copies it every now and then. */
async function synced({ pipeline, primary, standby }: Lab): Promise<void> {
  const has = await until(
    async () => {
      // What a slot can be read from moves on with these records, which else come every 15 s.
      await primary.query("postgres", "SELECT pg_log_standby_snapshot()");
      const found = await standby.query(
        "postgres",
        "SELECT failover AND synced AND NOT temporary AND invalidation_reason IS NULL AS ready FROM pg_replication_slots WHERE slot_name = $1",
        [pipeline.name],
      );
      return found[0]?.["ready"] === true;
    },
    60_000,
    500,
  );
  if (!has)
    throw new Error(
      `the slot is not on the standby: ${JSON.stringify(await standby.query("postgres", "SELECT * FROM pg_replication_slots"))}`,
    );
}

async function promote({ standby }: Lab): Promise<void> {
  expect(await standby.query("postgres", "SELECT pg_promote(true, 60) AS promoted")).toEqual([{ promoted: true }]);
}

async function expectEqual({ pipeline, standby }: Lab, cdc: Service<CdcStatus>): Promise<void> {
  const progress = async (): Promise<string> => JSON.stringify((await cdc.status()).eventsTotal);
  const { equal, replicas } = await untilCaughtUp({
    mainUrl: standby.url(pipeline.name),
    replicas: pipeline.replicas,
    progress,
    stallMs: 45_000,
  });
  const wrong = replicas.flatMap(({ problem, tables }) => [problem, ...tables.filter((table) => !isEqual(table))]);
  if (!equal) throw new Error(`Not equal: ${JSON.stringify(wrong)}\n${pipeline.logs()}`);
  expect(replicas[0]?.tables.map(({ table }) => table).sort()).toEqual(["public.accounts", "public.entries"]);
}

const onReplica = async ({ pipeline }: Lab, sql: string): Promise<number> =>
  Number((await pipeline.replicaServer.query(pipeline.name, sql))[0]?.["rows"]);

const UNSEEN = "SELECT count(*) AS rows FROM entries WHERE v = 'unseen'";

/** The standby is away, and the primary goes on alone: its changes are lost with it. */
async function changesThatTheStandbyLacks({ pipeline, primary, standby }: Lab): Promise<void> {
  await standby.kill("SIGINT");
  await primary.query(pipeline.name, "INSERT INTO entries SELECT -n, 'unseen' FROM generate_series(1, 100) AS n");
}

test.concurrent.skipIf(install === null).each(["stream", "poll"])(
  "a promoted standby has the slot: cdc goes on there, and nothing is lost or doubled: %s",
  async (mode) => {
    const lab = await labOf(`failover_${mode}`, { synchronized_standby_slots: STANDBY_SLOT });
    const { pipeline, primary, standby, url } = lab;
    await pipeline.router("postgres");
    const cdc = await pipeline.cdc({ databaseUrl: url, env: { ...ENV, CDC_MODE: mode } });
    await cdc.ready();
    const loading = load(url);
    await synced(lab);
    expect(await until(async () => (await cdc.status()).slot?.failover === true, 60_000)).toBe(true);
    expect(await until(() => loading.count() > 200, 60_000)).toBe(true);
    // The copy of a table without a key is read past the stream, which alone waits for the standby.
    expect(await until(async () => (await cdc.status()).snapshots.length === 0, 60_000)).toBe(true);
    await changesThatTheStandbyLacks(lab);
    await Bun.sleep(3_000);
    // What the standby does not have main-db holds back, so that it is not published.
    expect(await onReplica(lab, UNSEEN)).toBe(0);
    await primary.kill();
    await standby.start();
    await lab.moveToStandby();
    expect(await until(() => cdc.log().includes("STANDBY"), 60_000)).toBe(true);
    const since = performance.now();
    await promote(lab);
    const before = loading.count();
    const events = (await cdc.status()).eventsTotal;
    expect(await until(async () => (await cdc.status()).eventsTotal > events, 60_000)).toBe(true);
    process.stderr.write(`goes on after the promotion (${mode}): ${((performance.now() - since) / 1000).toFixed(1)} s\n`);
    expect(await until(() => loading.count() > before + 200, 60_000)).toBe(true);
    await loading.stop();
    await expectEqual(lab, cdc);
    expect(await onReplica(lab, UNSEEN)).toBe(0);
    expect(await until(async () => (await cdc.status()).slot?.failover === true, 60_000)).toBe(true);
  },
);

/** cdc's record of its slot says that main-db waits for its standbys. */
async function isSynchronized({ pipeline }: Lab): Promise<boolean> {
  const records = (await readTopic(pipeline.kafka.brokers, `${pipeline.name}.signals`)).filter(
    ({ key }) => key?.toString() === "slot",
  );
  return JSON.parse(records.at(-1)?.value?.toString() ?? "{}").synchronized;
}

test.concurrent.skipIf(install === null).each([
  ["without synchronized_standby_slots", false],
  ["when that was taken away while cdc runs", true],
])("%s, what the standby lacks may be published: cdc stops at the promoted one, or copies", async (_when, waitsAtFirst) => {
  const lab = await labOf(`failover_ahead_${waitsAtFirst}`, waitsAtFirst ? { synchronized_standby_slots: STANDBY_SLOT } : {});
  const { pipeline, primary, standby, url } = lab;
  await pipeline.router("postgres");
  const first = await pipeline.cdc({ databaseUrl: url, env: ENV });
  await first.ready();
  await synced(lab);
  expect(await isSynchronized(lab)).toBe(waitsAtFirst);
  if (waitsAtFirst) {
    await primary.query("postgres", "ALTER SYSTEM SET synchronized_standby_slots = ''");
    await primary.query("postgres", "SELECT pg_reload_conf()");
    expect(await until(async () => !(await isSynchronized(lab)), 60_000)).toBe(true);
  }
  await changesThatTheStandbyLacks(lab);
  expect(await until(async () => (await onReplica(lab, UNSEEN)) === 100, 60_000)).toBe(true);
  await primary.kill();
  await first.kill();
  await standby.start();
  await promote(lab);
  // It has gone on, and its WAL ends beyond all that was published.
  await standby.query(pipeline.name, "UPDATE accounts SET v = repeat('x', 1000)");
  await lab.moveToStandby();
  const [finding] = await refusal(await pipeline.cdc({ databaseUrl: url, env: ENV }));
  expect(finding).toMatchObject({ code: "MAIN_DB_SET_BACK", msg: expect.stringContaining("has left timeline 1 for 2") });
  const repairing = await pipeline.cdc({ databaseUrl: url, env: { ...ENV, CDC_ON_SLOT_LOST: "resnapshot" } });
  await repairing.ready();
  await standby.query(pipeline.name, "INSERT INTO entries VALUES (1, 'after'); UPDATE accounts SET n = n + 1 WHERE id < 10");
  await expectEqual(lab, repairing);
  expect(await onReplica(lab, UNSEEN)).toBe(0);
});
