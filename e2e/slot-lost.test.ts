import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import type { CdcStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import type { Client } from "pg";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { refusal } from "./refusals.ts";
import { readTopic } from "./topics.ts";

/** A slot that lost changes never skips them silently: cdc stops with the cure, or repairs every replica by itself. */

setDefaultTimeout(180_000);

const ROWS = 20_000;
const schema = (client: Client) =>
  client.query(`CREATE TABLE orders (id int PRIMARY KEY, n int NOT NULL, v text NOT NULL);
    INSERT INTO orders SELECT id, 0, md5(id::text) FROM generate_series(1, ${ROWS}) AS id;
    CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1);
    CREATE TABLE altered (id int PRIMARY KEY, old text, price numeric); INSERT INTO altered SELECT n, 'old', n FROM generate_series(1, 100) AS n;
    CREATE TABLE keyless (n int, v text); ALTER TABLE keyless REPLICA IDENTITY FULL; INSERT INTO keyless SELECT n, 'v' FROM generate_series(1, 500) AS n;
    CREATE TABLE keyed_later (n int NOT NULL, v text); ALTER TABLE keyed_later REPLICA IDENTITY FULL; INSERT INTO keyed_later VALUES (1, 'a'), (1, 'b'), (2, 'c')`);

const RESNAPSHOT = { CDC_ON_SLOT_LOST: "resnapshot", CDC_SNAPSHOT_CHUNK_ROWS: "500" };

const kept: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of kept.splice(0)) await one[Symbol.asyncDispose]();
});

async function pipelineOf(name: string, env: Readonly<Record<string, string>> = {}): Promise<Pipeline> {
  const pipeline = await openPipeline({ name, engines: ["postgres", "sqlite"], schema, env });
  kept.push(pipeline);
  return pipeline;
}

/** Everything that nobody will tell: rows, tables and columns come, change and go. */
async function changeUnseen({ sql }: Pipeline): Promise<void> {
  await sql("DELETE FROM orders WHERE id % 3 = 0");
  await sql("UPDATE orders SET n = n + 1 WHERE id % 5 = 0");
  await sql("INSERT INTO orders SELECT id, 1, 'unseen' FROM generate_series(100001, 100500) AS id");
  await sql("DELETE FROM keyless WHERE n < 250; INSERT INTO keyless VALUES (7, 'unseen')");
  await sql("DELETE FROM keyed_later WHERE v = 'a'; ALTER TABLE keyed_later ADD PRIMARY KEY (n)"); // which the replicas' rows do not allow
  await sql("ALTER TABLE keyed_later ALTER COLUMN v TYPE int USING 5");
  await sql("DROP TABLE gone");
  await sql("ALTER TABLE altered DROP COLUMN old; ALTER TABLE altered ADD COLUMN fresh int NOT NULL DEFAULT 7");
  await sql(
    "ALTER TABLE altered ALTER COLUMN price TYPE text; ALTER TABLE altered RENAME TO renamed; DELETE FROM renamed WHERE id < 10",
  );
  await sql("CREATE TABLE made (id int PRIMARY KEY, v text); INSERT INTO made VALUES (1, 'unseen')");
}

const slotOf = async ({ sql, name }: Pipeline) =>
  (await sql("SELECT confirmed_flush_lsn::text AS lsn, active FROM pg_replication_slots WHERE slot_name = $1", [name]))[0];

/** Runs the pipeline until every replica is equal, and stops cdc; the routers go on. */
async function equalOnce(pipeline: Pipeline): Promise<void> {
  const cdc = await pipeline.cdc();
  for (const engine of ["postgres", "sqlite"] as const) await pipeline.router(engine);
  await cdc.ready();
  await pipeline.expectEqual();
  await cdc.stop();
}

async function repaired(pipeline: Pipeline): Promise<Service<CdcStatus>> {
  const cdc = await pipeline.cdc({ env: RESNAPSHOT });
  await cdc.ready();
  await pipeline.expectEqual();
  const tables = await pipeline.sql("SELECT relname FROM pg_class WHERE relname IN ('gone', 'altered')");
  expect(tables).toEqual([]);
  return cdc;
}

test("a slot that is gone: stop tells the cure, resnapshot repairs every replica, deletes and schema changes included", async () => {
  const pipeline = await pipelineOf("slot_gone");
  await equalOnce(pipeline);
  await pipeline.sql("SELECT pg_drop_replication_slot($1)", [pipeline.name]);
  await changeUnseen(pipeline);
  const [finding] = await refusal(await pipeline.cdc());
  expect(finding).toMatchObject({ code: "SLOT_LOST", advice: expect.stringContaining("CDC_ON_SLOT_LOST=resnapshot") });
  const cdc = await repaired(pipeline);
  await pipeline.sql("UPDATE orders SET n = -1 WHERE id < 100; DELETE FROM made");
  await pipeline.expectEqual();
  const replica = await pipeline.replicaServer.query(
    pipeline.name,
    "SELECT relname FROM pg_class WHERE relname IN ('gone', 'altered')",
  );
  expect(replica).toEqual([]);
  expect(await cdc.stop()).toEqual({ code: 0, signal: null });
  // Once.
  const again = await pipeline.cdc({ env: RESNAPSHOT });
  await again.ready();
  expect(again.log()).not.toContain("made anew");
  expect((await again.status()).snapshots).toEqual([]);
});

test.each([
  ["made anew", "SELECT pg_drop_replication_slot($1); "],
  ["advanced", ""],
])("a slot that somebody else has %s while cdc was down is noticed", async (how) => {
  const pipeline = await pipelineOf(`slot_${how.replace(" ", "_")}`);
  const { sql, name } = pipeline;
  await equalOnce(pipeline);
  if (how === "made anew") await sql("SELECT pg_drop_replication_slot($1)", [name]);
  await changeUnseen(pipeline);
  if (how === "made anew") await sql("SELECT pg_create_logical_replication_slot($1, 'wal2json')", [name]);
  else await sql("SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", [name]);
  const [finding] = await refusal(await pipeline.cdc());
  expect(finding).toMatchObject({ code: "SLOT_MOVED", advice: expect.stringContaining("CDC_ON_SLOT_LOST=resnapshot") });
  await repaired(pipeline);
});

test("cdc is killed again and again between the loss and the last copy: the replicas end equal", async () => {
  const pipeline = await pipelineOf("slot_killed", RESNAPSHOT);
  await equalOnce(pipeline);
  const said = (text: string) => (cdc: Service<CdcStatus>) => cdc.log().includes(text);
  const made = async () => (await slotOf(pipeline)) !== undefined;
  const copied = async (cdc: Service<CdcStatus>) =>
    ((await cdc.status().catch(() => null))?.snapshots.find(({ table }) => table === "public.orders")?.rows ?? 0) >= 2_000;
  await changeUnseen(pipeline);
  const stages = [said("a new slot is made"), made, said("was made anew"), copied];
  for (const [round, stage] of stages.entries()) {
    if (await made()) await pipeline.sql("SELECT pg_drop_replication_slot($1)", [pipeline.name]);
    // Killed there, and again a little later.
    for (const laterMs of [0, 150]) {
      const cdc = await pipeline.cdc();
      await until(async () => stage(cdc), 5_000);
      await Bun.sleep(laterMs);
      await cdc.kill();
      await pipeline.sql(
        `UPDATE orders SET n = n + 1 WHERE id % 7 = ${round}; DELETE FROM orders WHERE id = ${round * 300 + laterMs + 1}`,
      );
    }
  }
  await repaired(pipeline);
});

test.each(["stream", "poll"])("an idle database releases its WAL and tells that the pipeline lives: %s", async (mode) => {
  const pipeline = await pipelineOf(`slot_idle_${mode}`, { CDC_HEARTBEAT_INTERVAL_MS: "300", CDC_MODE: mode });
  const { sql, name, kafka } = pipeline;
  const cdc = await pipeline.cdc({ tables: "public.gone" });
  await cdc.ready();
  await until(async () => (await cdc.status()).snapshots.length === 0, 20_000);
  await sql("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.t (id int)");
  for (let round = 0; round < 3; round++) {
    await sql("INSERT INTO elsewhere.t SELECT generate_series(1, 20000)");
    const end = (await sql("SELECT pg_current_wal_lsn()::text AS lsn"))[0]?.["lsn"];
    const passed = () =>
      sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > $2::pg_lsn", [name, end]);
    expect(await until(async () => (await passed()).length > 0, 15_000)).toBe(true);
  }
  expect(await until(async () => (await cdc.status()).lagSeconds === 0, 10_000)).toBe(true);
  const beats = (await readTopic(kafka.brokers, `${name}.heartbeat`)).map(({ key, value }) => [
    key?.toString(),
    JSON.parse(value?.toString() ?? ""),
  ]);
  expect(beats.length).toBeGreaterThan(1);
  const [key, last] = beats.at(-1) ?? [];
  expect(key).toBe(`{"slot":"${name}"}`);
  expect(last).toEqual({
    slot: name,
    commit_lsn: expect.any(Number),
    source_ts_ms: expect.any(Number),
    ts_ms: expect.any(Number),
  });
  expect(last.ts_ms).toBeGreaterThanOrEqual(last.source_ts_ms - 5);
});

test("without the right to write messages there are no heartbeats, said once; 0 switches them off", async () => {
  const pipeline = await pipelineOf("slot_no_right", { CDC_SNAPSHOT: "never", CDC_HEARTBEAT_INTERVAL_MS: "100", CDC_DDL: "off" });
  const { sql, mainUrl, kafka, name } = pipeline;
  await sql("DROP ROLE IF EXISTS slot_role; CREATE ROLE slot_role LOGIN REPLICATION PASSWORD 'pa55-w0rd'");
  try {
    await sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO slot_role");
    await sql("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC");
    const databaseUrl = mainUrl.replace(/\/\/[^@]*@/, "//slot_role:pa55-w0rd@");
    const cdc = await pipeline.cdc({ databaseUrl });
    await cdc.ready();
    await sql("INSERT INTO gone VALUES (2)");
    expect(await until(async () => (await cdc.status()).eventsTotal === 1, 20_000)).toBe(true);
    expect(cdc.log().split("no heartbeats").length).toBe(2);
    await cdc.stop();
    const off = await pipeline.cdc({ env: { CDC_HEARTBEAT_INTERVAL_MS: "0" } });
    await off.ready();
    await Bun.sleep(500);
    expect(await readTopic(kafka.brokers, `${name}.heartbeat`).catch(() => [])).toEqual([]);
    await off.stop();
  } finally {
    await sql("GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO PUBLIC");
    await sql("DROP OWNED BY slot_role; DROP ROLE slot_role");
  }
});

test("a slot that falls behind while Kafka is away is told of with the setting to raise", async () => {
  const pipeline = await pipelineOf("slot_behind");
  const { sql, name, kafka } = pipeline;
  await sql("ALTER SYSTEM SET max_slot_wal_keep_size = '400MB'");
  await sql("SELECT pg_reload_conf()");
  try {
    const cdc = await pipeline.cdc();
    await cdc.ready();
    expect(await until(async () => (await cdc.status()).slot?.active === true, 20_000)).toBe(true);
    expect((await cdc.status()).slot).toMatchObject({ status: "reserved", failover: false, secondsToExhaustion: null });
    await kafka.kill();
    for (let round = 0; round < 25; round++) {
      await sql("INSERT INTO keyless SELECT n, repeat('x', 2000) FROM generate_series(1, 1200) AS n");
      await Bun.sleep(1_000);
    }
    const slot = (await cdc.status()).slot;
    expect(slot?.burnBytesPerSecond).toBeGreaterThan(500_000);
    expect(slot?.secondsToExhaustion).toBeLessThan(900);
    expect(cdc.log()).toMatch(/slot_behind\W+ keeps \d+ MiB .* raise max_slot_wal_keep_size/);
    const metrics = await (await fetch(`${cdc.httpUrl}/metrics`)).text();
    for (const metric of ["burn_bytes_per_second", "exhaustion_seconds", "active"])
      expect(metrics).toMatch(new RegExp(`^cascade_cdc_slot_${metric} \\d`, "m"));
    expect(await sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", [name])).not.toEqual([
      { wal_status: "lost" },
    ]);
    await kafka.start();
    await pipeline.router("postgres");
    await pipeline.expectEqual(45_000, ["postgres"]);
  } finally {
    await sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
    await sql("SELECT pg_reload_conf()");
  }
});

test("a slot that has lost WAL is repaired", async () => {
  const pipeline = await pipelineOf("slot_wal_gone");
  const { sql } = pipeline;
  await equalOnce(pipeline);
  await sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
  await sql("SELECT pg_reload_conf()");
  try {
    await changeUnseen(pipeline);
    for (let round = 0; round < 6; round++) {
      await sql("INSERT INTO keyless SELECT n, repeat('x', 2000) FROM generate_series(1, 3000) AS n");
      await sql("SELECT pg_switch_wal()");
      await sql("DELETE FROM keyless WHERE length(v) > 100");
    }
    await sql("CHECKPOINT");
    expect(await sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", [pipeline.name])).toEqual([
      { wal_status: "lost" },
    ]);
  } finally {
    await sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
    await sql("SELECT pg_reload_conf()");
  }
  const [finding] = await refusal(await pipeline.cdc());
  expect(finding).toMatchObject({ code: "SLOT_LOST", msg: expect.stringContaining("has lost WAL") });
  await repaired(pipeline);
});
