import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { CdcStatus, RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { expectNoSecret, held } from "./refusals.ts";
import { readTopic, testClient, topicEnd, withAdmin } from "./topics.ts";

/** What stops one table: it says why, nothing of it is lost, the others go on, and it goes on by itself once the cure is applied. */

setDefaultTimeout(180_000);

const name = "bad_input";
const engines = ["postgres", "sqlite"] as const;
type Engine = (typeof engines)[number];
const messageTables = ["no_json", "hostile", "no_envelope", "no_schema", "no_fit", "stray"] as const;
const tables = ["fine", ...messageTables, "narrow", "typed", "loose", "checked", "deleted", "expired"];

/** The replicas' own tables that do not fit. */
const misfits: Readonly<Record<Engine, string>> = {
  postgres: `CREATE TABLE narrow (id int PRIMARY KEY); CREATE TABLE typed (id int PRIMARY KEY, v varchar(3));
    CREATE TABLE loose (id int, v text); CREATE TABLE checked (id int PRIMARY KEY, v text CHECK (length(v) < 15))`,
  sqlite: `CREATE TABLE narrow (id INTEGER PRIMARY KEY); CREATE TABLE loose (id INTEGER, v TEXT);
    CREATE TABLE checked (id INTEGER PRIMARY KEY, v TEXT CHECK (length(v) < 15))`,
};

let pipeline: Pipeline;
let cdc: Service<CdcStatus>;
let routers: Record<Engine, Service<RouterStatus>>;

beforeAll(async () => {
  const schema = tables.map((table) => `CREATE TABLE ${table} (id int PRIMARY KEY, v text)`).join(";");
  pipeline = await openPipeline({ name, schema: (client) => client.query(schema) });
  for (const engine of engines) await onReplica(engine, misfits[engine]);
  cdc = await pipeline.cdc();
  await cdc.ready();
  routers = { postgres: await pipeline.router("postgres"), sqlite: await pipeline.router("sqlite") };
  // Ready they may never be: a table that does not fit is looked at before it has a row.
  for (const engine of engines) expect(await until(() => routers[engine].status().then(Boolean, () => false), 30_000)).toBe(true);
});
afterAll(async () => {
  await pipeline[Symbol.asyncDispose]();
});

async function onReplica(engine: Engine, sql: string): Promise<void> {
  if (engine === "postgres") return void (await pipeline.replicaServer.query(name, sql));
  const url = pipeline.replicas.find((replica) => replica.name === engine)?.url ?? "";
  using file = new Database(url.replace("sqlite://", ""), { create: true });
  file.run("PRAGMA busy_timeout = 10000");
  file.run(sql);
}

const topicOf = (table: string): string => `${name}.public.${table.replace("_", "_x5F")}`;

/** Moves a replica's progress, as the advice says. */
const moveProgress = (engine: Engine, table: string, nextOffset: string): Promise<void> =>
  onReplica(
    engine,
    `UPDATE ${engine === "postgres" ? "cascade.progress" : "cascade_progress"} SET next_offset = ${nextOffset} WHERE topic = '${topicOf(table)}'`,
  );

let nextId = 1;
const insert = (table: string, v = "r0w-value"): Promise<unknown> =>
  pipeline.sql(`INSERT INTO ${table} VALUES ($1, $2)`, [nextId++, v]);

/** Rows of the table arrive at both replicas. */
async function arrives(table: string): Promise<void> {
  const { eventsTotal } = await cdc.status();
  await insert(table, "a");
  const applied = async (engine: Engine): Promise<boolean> => {
    const { partitions } = await routers[engine].status();
    const end = await topicEnd(pipeline.kafka.brokers, topicOf(table));
    return partitions.some(({ topic, nextOffset }) => topic === topicOf(table) && Number(nextOffset) === end && end > 0);
  };
  expect(await until(async () => (await cdc.status()).eventsTotal > eventsTotal, 60_000)).toBe(true);
  for (const engine of engines)
    expect([engine, table, await until(() => applied(engine), 60_000)]).toEqual([engine, table, true]);
}

async function produce(topic: string, value: string): Promise<void> {
  const producer = testClient(pipeline.kafka.brokers).producer();
  await producer.connect();
  await producer.send({ topic, messages: [{ key: null, value }], acks: -1 });
  await producer.disconnect();
}

interface Envelope {
  readonly source: { readonly commit_lsn: number; readonly schema_id: string };
}

async function lastEnvelope(table: string): Promise<Envelope> {
  const messages = await readTopic(pipeline.kafka.brokers, topicOf(table));
  return JSON.parse(messages.at(-1)?.value?.toString() ?? "") as Envelope;
}

const deep = (levels: number): string => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;

const row = { id: 1_000, v: "r0w-value" };

/** A message that looks like the table's next change, but for what is given. */
async function forged(table: string, changes: { readonly after?: object; readonly schemaId?: string }): Promise<string> {
  const { source, ...rest } = await lastEnvelope(table);
  const changed = { ...source, commit_lsn: source.commit_lsn + 1, schema_id: changes.schemaId ?? source.schema_id };
  return JSON.stringify({ ...rest, op: "c", before: null, after: changes.after ?? row, source: changed });
}

describe("messages in a table's topic", () => {
  test.each<readonly [(typeof messageTables)[number], string, string, () => Promise<string>]>([
    ["no_json", "MALFORMED_MESSAGE", "move the replica's progress", async () => '{"op":"c","after":{"v":"r0w-value"'],
    [
      "hostile",
      "MALFORMED_MESSAGE",
      "who else writes",
      async () =>
        (await forged("hostile", {})).replace(/"commit_lsn":\d+/, `"commit_lsn":9007199254740999,"__proto__":${deep(100_000)}`),
    ],
    ["no_envelope", "MALFORMED_MESSAGE", "who else writes", async () => JSON.stringify({ payload: row })],
    ["no_schema", "UNKNOWN_SCHEMA", "who deleted", () => forged("no_schema", { schemaId: "00000000000000ff" })],
    ["no_fit", "MALFORMED_EVENT", "who else writes", () => forged("no_fit", { after: { ...row, more: "r0w-value" } })],
    [
      "stray",
      "MALFORMED_EVENT",
      "who else writes",
      async () => forged("stray", { schemaId: (await lastEnvelope("fine")).source.schema_id }),
    ],
  ])("%s: %s", async (table, code, advice, message) => {
    await arrives("fine");
    await arrives(table);
    await produce(topicOf(table), await message());
    await insert(table);
    for (const engine of engines)
      expect(await held(routers[engine], `public.${table}`)).toMatchObject({
        ...{ code, advice: expect.stringContaining(advice) },
        ...{ topic: topicOf(table), partition: 0, offset: "1" },
      });
    await arrives("fine");
    for (const engine of engines) await moveProgress(engine, table, "next_offset + 1");
    await arrives(table);
  });
});

describe("a replica's own table", () => {
  test.each<readonly [string, readonly Engine[], string]>([
    ["narrow", engines, 'column "v" is missing'],
    ["typed", ["postgres"], 'column "v" is character varying(3), which does not hold every text exactly'],
    ["loose", engines, 'no unique index on exactly the key ("id")'],
  ])("%s: the printed SQL mends it", async (table, of, problem) => {
    await insert(table);
    for (const engine of of) {
      const error = await held(routers[engine], `public.${table}`);
      expect(error).toMatchObject({ code: "REPLICA_TABLE_MISMATCH", message: expect.stringContaining(problem) });
      await arrives("fine");
      await onReplica(engine, error.advice.replace(/^.*and the table goes on by itself: /, ""));
    }
    await arrives(table);
  });

  test("a row that it refuses waits until the constraint is gone", async () => {
    await insert("checked", "short");
    await insert("checked", "r0w-value-too-long");
    for (const engine of engines) {
      const { code, message, advice } = await held(routers[engine], "public.checked");
      expect(code).toBe("CONSTRAINT_VIOLATED");
      expect(message).toContain("heck"); // its name, or its text
      expect(advice).toContain("drop it");
    }
    await arrives("fine");
    await onReplica("postgres", "ALTER TABLE checked DROP CONSTRAINT checked_v_check");
    await onReplica("sqlite", "ALTER TABLE checked RENAME TO c; CREATE TABLE checked (id INTEGER PRIMARY KEY, v TEXT)");
    await onReplica("sqlite", "INSERT INTO checked SELECT * FROM c; DROP TABLE c");
    await arrives("checked");
  });
});

describe("a topic that lost messages", () => {
  test("deleted: made anew, and each replica's table copied again, which it asks for by itself", async () => {
    for (let count = 0; count < 3; count += 1) await arrives("deleted");
    await withAdmin(pipeline.kafka.brokers, (admin) => admin.deleteTopics({ topics: [topicOf("deleted")] }));
    await insert("deleted");
    await arrives("fine");
    await arrives("deleted");
    for (const engine of engines)
      expect(routers[engine].log()).toContain("public.deleted: its changes are no longer all in Kafka");
  });

  test("older than its retention: the replica's table is copied again, which it asks for by itself", async () => {
    await arrives("expired");
    for (const engine of engines) await routers[engine].stop();
    await insert("expired");
    await insert("expired");
    const end = async () => topicEnd(pipeline.kafka.brokers, topicOf("expired"));
    expect(await until(async () => (await end()) === 3, 20_000)).toBe(true);
    await withAdmin(pipeline.kafka.brokers, async (admin) => {
      await admin.fetchTopicMetadata({ topics: [topicOf("expired")] });
      await admin.deleteTopicRecords({ topic: topicOf("expired"), partitions: [{ partition: 0, offset: "2" }] });
    });
    for (const engine of engines) {
      const router = await pipeline.router(engine);
      routers[engine] = router;
      expect(await until(() => router.log().includes("asks for a copy"), 20_000)).toBe(true);
    }
    await arrives("fine");
    await arrives("expired");
  });
});

test("in the end nothing is lost, nothing is held and nothing secret was told", async () => {
  await pipeline.expectEqual(8_000);
  for (const service of [cdc, ...Object.values(routers)]) {
    expect(await service.status()).toMatchObject({ ready: true, reasons: [] });
    expectNoSecret(service.log());
  }
});
