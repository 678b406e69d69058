import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { spawnChild } from "@cascade/local/child.ts";
import { repository } from "@cascade/local/paths.ts";
import type { CdcStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { decodeChangeEvent, type WireRow } from "@cascade/shared/change-event";
import type { Client } from "pg";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { refusal } from "./refusals.ts";
import { readTopic, testClient } from "./topics.ts";

/** Tables that were there before cdc: copied into Kafka while they change, whatever is killed, and again when it is asked for. */

setDefaultTimeout(120_000);

const ROWS = 60_000;
const schema = (client: Client) =>
  client.query(`CREATE TABLE big (id int PRIMARY KEY, n int NOT NULL, v text NOT NULL);
    INSERT INTO big SELECT id, 0, md5(id::text) FROM generate_series(1, ${ROWS}) AS id;
    CREATE TABLE keyless (n int, v text); ALTER TABLE keyless REPLICA IDENTITY FULL; INSERT INTO keyless SELECT n, 'v' FROM generate_series(1, 500) AS n`);

const progressOf = async (cdc: Service<CdcStatus>, table: string): Promise<number | "over"> => {
  const status = await cdc.status().catch(() => null);
  if (status === null) return 0;
  return status.snapshots.find((one) => one.table === table)?.rows ?? (status.ready ? "over" : 0);
};

/** The table's rows by key, as a replica that reads the topic from its beginning has them. */
async function replicaOf({ kafka, name }: Pipeline, table: string, key: string): Promise<ReadonlyMap<unknown, WireRow>> {
  const rows = new Map<unknown, WireRow>();
  let [lsn, last] = [-1n, -1];
  for (const { value } of await readTopic(kafka.brokers, `${name}.public.${table}`)) {
    const { op, before, after, commitLsn, ordinal } = decodeChangeEvent(value?.toString("utf8") ?? "");
    if (commitLsn < lsn || (commitLsn === lsn && ordinal <= last)) continue;
    [lsn, last] = [commitLsn, ordinal];
    if (op === "t") rows.clear();
    if (before !== null) rows.delete(before[key]);
    if (after !== null) rows.set(after[key], after);
  }
  return rows;
}

async function expectEqual(pipeline: Pipeline): Promise<void> {
  const main = async () => JSON.stringify(await pipeline.sql("SELECT id, n, v FROM big ORDER BY id"));
  const replica = async () =>
    JSON.stringify([...(await replicaOf(pipeline, "big", "id")).values()].toSorted((a, b) => Number(a["id"]) - Number(b["id"])));
  await until(async () => (await main()) === (await replica()), 20_000);
  expect((await replica()) === (await main())).toBe(true);
}

async function command(
  pipeline: Pipeline,
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly said: string }> {
  const child = spawnChild([process.execPath, join(repository, "cdc/src/snapshot-command.ts"), ...args], {
    cwd: repository,
    env: {
      ...process.env,
      KAFKA_BROKERS: pipeline.kafka.brokers,
      KAFKA_TOPIC_PREFIX: pipeline.name,
      CDC_DATABASE_URL: pipeline.mainUrl,
    },
  });
  const exit = await child.exited;
  return { code: exit.code, said: child.log() };
}

test("cdc, main-db and Kafka are killed while a table is copied under load; the copy goes on where it was and ends equal", async () => {
  await using pipeline = await openPipeline({
    name: "snapshots_killed",
    engines: [],
    schema,
    env: { CDC_SNAPSHOT_CHUNK_ROWS: "1000" },
  });
  const { sql } = pipeline;
  let stopped = false;
  const loading = (async () => {
    for (let at = 1; !stopped; at++) {
      const id = (at * 7919) % ROWS;
      await sql(`UPDATE big SET n = n + 1 WHERE id BETWEEN ${id} AND ${id + 5}`).catch(() => undefined);
      await sql(`DELETE FROM big WHERE id = ${id + 9}`).catch(() => undefined);
      await sql(`UPDATE big SET id = id + 1000000 WHERE id = ${id + 12}`).catch(() => undefined);
      await Bun.sleep(5);
    }
  })();
  let cdc = await pipeline.cdc();
  const reach = (rows: number) =>
    until(async () => {
      const progress = await progressOf(cdc, "public.big");
      return progress === "over" || progress >= rows;
    }, 60_000);
  expect(await reach(5_000)).toBe(true);
  await cdc.kill();
  cdc = await pipeline.cdc();
  expect(await reach(12_000)).toBe(true);
  await pipeline.main.kill();
  await pipeline.main.start();
  expect(await reach(20_000)).toBe(true);
  await pipeline.kafka.kill();
  await pipeline.kafka.start();
  expect(await until(async () => (await progressOf(cdc, "public.big")) === "over", 60_000)).toBe(true);
  stopped = true;
  await loading;
  await expectEqual(pipeline);
  // Not from the start each time.
  const begun = [...cdc.log().matchAll(/"table":"public.big","rows":(\d+),.*"msg":"copying/g)].map(([, rows]) => Number(rows));
  expect(begun.length).toBeGreaterThan(1); // the one after cdc's end, and the one after main-db's
  expect(begun[0]).toBeGreaterThan(0);
  expect(begun).toEqual(begun.toSorted((one, other) => one - other));
});

test("a snapshot is asked for by the command, which tells its end; a table added to CDC_TABLES later is copied alone, and emptied first when it was there before", async () => {
  await using pipeline = await openPipeline({ name: "snapshots_asked", engines: [], schema });
  const cdc = await pipeline.cdc({ tables: "public.big" });
  await cdc.ready();
  expect(await until(async () => (await progressOf(cdc, "public.big")) === "over", 60_000)).toBe(true);
  expect((await cdc.status()).eventsTotal).toBe(ROWS);
  const part = await command(
    pipeline,
    "--",
    "--tables",
    "public.b*",
    "--replica",
    "new",
    "--to",
    '{"id":10}',
    "--where",
    "id > 5",
    "--wait",
  );
  expect(part).toMatchObject({ code: 0 });
  expect(part.said).toContain("public.big: done, 5 rows");
  const messages = (await readTopic(pipeline.kafka.brokers, "snapshots_asked.public.big")).map(({ value }) =>
    decodeChangeEvent(value?.toString("utf8") ?? ""),
  );
  expect(messages.slice(ROWS).map(({ op, marks }) => [op, marks?.replica])).toEqual([
    ["t", "new"],
    ...Array.from({ length: 5 }, () => ["r", "new"]),
  ]);
  expect(await command(pipeline, "--tables", "public.nothing", "--wait")).toMatchObject({ code: 1 });
  expect(await command(pipeline, "--tables", "nothing")).toMatchObject({ code: 78 });
  await cdc.stop();
  const wider = await pipeline.cdc({ tables: "public.*" });
  await wider.ready();
  expect(await until(async () => (await progressOf(wider, "public.keyless")) === "over", 60_000)).toBe(true);
  expect((await wider.status()).eventsTotal).toBe(501);
  await wider.stop();
  const without = await pipeline.cdc({ tables: "public.keyless" });
  await without.ready();
  await pipeline.sql("DELETE FROM big WHERE id > 100");
  await pipeline.sql("INSERT INTO keyless VALUES (0, 'behind it')");
  expect(await until(async () => (await without.status()).eventsTotal > 0, 20_000)).toBe(true);
  await without.stop();
  const back = await pipeline.cdc({ tables: "public.*" });
  await back.ready();
  expect(await until(async () => (await progressOf(back, "public.big")) === "over", 60_000)).toBe(true);
  expect((await back.status()).eventsTotal).toBe(101);
  await expectEqual(pipeline);
});

test("what anybody else writes on the signals topic does no harm, and is answered", async () => {
  await using pipeline = await openPipeline({ name: "snapshots_signals", engines: [], schema });
  const producer = testClient(pipeline.kafka.brokers).producer();
  const cdc = await pipeline.cdc({ tables: "public.keyless" });
  await cdc.ready();
  await producer.connect();
  const topic = "snapshots_signals.signals";
  await producer.send({
    topic,
    messages: [
      { key: "bad", value: "no JSON" },
      { key: "gone", value: null },
      { key: "snapshot:initial:1", value: "no state" },
      { key: "good", value: '{"type":"snapshot","tables":["public.keyless"]}' },
    ],
  });
  await producer.disconnect();
  const answered = async (key: string) => {
    const messages = await readTopic(pipeline.kafka.brokers, topic);
    return (
      messages.findLast((message) => message.key?.toString("utf8").startsWith(`snapshot:${key}:`))?.value?.toString("utf8") ?? ""
    );
  };
  expect(await until(async () => (await answered("good")).includes('"status":"done"'), 20_000)).toBe(true);
  expect(await answered("bad")).toContain("MALFORMED_REQUEST");
  await cdc.kill();
  const again = await pipeline.cdc({ tables: "public.keyless" });
  await again.ready();
  expect((await again.status()).eventsTotal).toBe(0);
});

test("what the role may not read, or not write, is refused with the cure before anything is made", async () => {
  await using pipeline = await openPipeline({ name: "snapshots_rights", engines: [], schema });
  const { sql, main, mainUrl } = pipeline;
  await sql("DROP ROLE IF EXISTS snapshots_role");
  await sql("CREATE ROLE snapshots_role LOGIN REPLICATION PASSWORD 'pa55-w0rd'");
  try {
    await sql("GRANT SELECT ON keyless TO snapshots_role; ALTER TABLE keyless ENABLE ROW LEVEL SECURITY");
    await sql("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC");
    const databaseUrl = mainUrl.replace(/\/\/[^@]*@/, "//snapshots_role:pa55-w0rd@");
    const findings = await refusal(await pipeline.cdc({ databaseUrl }));
    expect(findings.map(({ code }) => code)).toEqual(["MISSING_RIGHT", "MISSING_RIGHT", "MISSING_RIGHT"]);
    const cures = findings.map(({ advice }) => advice).join("\n");
    for (const cure of ['GRANT SELECT ON "public"."big"', "BYPASSRLS", "GRANT EXECUTE ON FUNCTION"])
      expect(cures).toContain(cure);
    expect(await sql("SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'snapshots_rights'")).toEqual([]);
    const without = await pipeline.cdc({ databaseUrl, env: { CDC_SNAPSHOT: "never" } });
    await without.ready();
    await without.stop();
    await sql("ALTER ROLE snapshots_role BYPASSRLS; GRANT SELECT ON big TO snapshots_role");
    await sql("GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO snapshots_role");
    const cured = await pipeline.cdc({ databaseUrl });
    await cured.ready();
    expect(await until(async () => (await progressOf(cured, "public.big")) === "over", 60_000)).toBe(true);
    await cured.stop();
  } finally {
    await sql("DROP OWNED BY snapshots_role; DROP ROLE snapshots_role");
  }
  expect(main.port).toBeGreaterThan(0);
});
