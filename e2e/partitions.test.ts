import { expect, setDefaultTimeout, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { until } from "@cascade/local/wait.ts";
import { topicOf } from "@cascade/shared/topic";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "./faults.ts";
import { startLoad } from "./load.ts";
import { MOVING_SCHEMA, startMoving } from "./moving-rows.ts";
import { type Engine, openPipeline, type Pipeline } from "./pipeline.ts";
import { withAdmin } from "./topics.ts";

/** KAFKA_PARTITIONS on real servers: rows divided by their key, over partitions that several routers share. */

setDefaultTimeout(240_000);

const PARTITIONS = 4;
const env = { KAFKA_PARTITIONS: String(PARTITIONS) };
/** A file of DuckDB's is one process's. */
const ROUTERS: Readonly<Partial<Record<Engine, number>>> = {
  postgres: 3,
  sqlite: 2,
  ...(findMariadb() === null ? {} : { mariadb: 2 }),
  duckdb: 1,
};
/** 1 to 2 s, and as much again for a machine that tests much at once. */
const MOVES_WITHIN_MS = 4_000;
const ENGINES = Object.keys(ROUTERS) as Engine[];

test("routers that share the partitions of tables end equal, whatever moves between them and whoever is killed", async () => {
  const seed = seedFromEnvironment();
  const say = (line: string): void => void process.stderr.write(`partitions, CASCADE_SEED=${seed}: ${line}\n`);
  const random = randomOf(seed);
  await using pipeline = await openPipeline({
    name: "partitions",
    engines: ENGINES,
    schema: async (client) => {
      await createDemoSchema(client);
      await client.query(MOVING_SCHEMA);
    },
  });
  let first: Awaited<ReturnType<typeof pipeline.cdc>> | null = await pipeline.cdc({ env });
  await first.ready();
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 200 });
  const moving = startMoving(pipeline.mainUrl, randomOf(seed + 1));
  const routers: Victim[] = [];
  for (const engine of ENGINES)
    for (let at = 0; at < (ROUTERS[engine] ?? 0); at++)
      routers.push(await serviceVictim(`router ${at} of ${engine}`, () => pipeline.router(engine)));
  const capture = await serviceVictim("cdc", async () => {
    const started = first ?? (await pipeline.cdc({ env }));
    first = null;
    return started;
  });
  await strike({ random, victims: [...routers, capture], rounds: 1, pauseMs: 1_500, awayMs: 1_000, say });
  await pipeline.sql(
    `ALTER TABLE heavy ADD COLUMN extra int DEFAULT 7; ALTER TABLE pairs RENAME COLUMN n TO number; ALTER TABLE told ALTER COLUMN id TYPE bigint;
     ALTER TABLE heavy DROP CONSTRAINT heavy_pkey, ADD PRIMARY KEY (region, id), ADD UNIQUE (id)`,
  );
  await strike({ random, victims: routers, rounds: 1, pauseMs: 1_000, awayMs: 500, say });
  say(`${await load.stop()} changes, ${await moving.stop()} moves`);
  await pipeline.expectEqual();
});

const OWNER = "('x' || left(md5(id::text), 8))::bit(32)::bigint";

/** How many messages each partition of a table's topic holds. */
async function counts({ kafka, name }: Pipeline, table: string): Promise<readonly number[]> {
  const topic = topicOf(name, { schema: "public", table });
  const offsets = await withAdmin(kafka.brokers, (admin) => admin.fetchTopicOffsets(topic));
  return offsets.toSorted((a, b) => a.partition - b.partition).map(({ high }) => Number(high));
}

test("anybody can say in SQL which partition a row is in, and it stays there when the topic gets more", async () => {
  await using pipeline = await openPipeline({
    name: "divided",
    engines: ["postgres"],
    schema: (client) =>
      client.query(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE entries (v text); ALTER TABLE entries REPLICA IDENTITY FULL",
      ),
  });
  const cdc = await pipeline.cdc({ env });
  await cdc.ready();
  await pipeline.router("postgres");
  // A row that is there before its table's first copy is copied too, and counts twice.
  expect(await until(async () => (await cdc.status()).snapshots.length === 0, 60_000)).toBe(true);
  await pipeline.sql(
    "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 1000) AS n; INSERT INTO entries SELECT 'v' FROM generate_series(1, 100)",
  );
  await pipeline.expectEqual();
  const expected = await pipeline.sql(
    `SELECT count(*)::int AS n FROM t GROUP BY ${OWNER} % ${PARTITIONS} ORDER BY ${OWNER} % ${PARTITIONS}`,
  );
  expect(await counts(pipeline, "t")).toEqual(expected.map(({ n }) => Number(n)));
  // Without a key they stay together; the copy of such a table begins with a truncate, which is told to all.
  expect(await counts(pipeline, "entries")).toEqual([101, 1, 1, 1]);
  const topic = topicOf(pipeline.name, { schema: "public", table: "t" });
  await withAdmin(pipeline.kafka.brokers, (admin) => admin.createPartitions({ topicPartitions: [{ topic, count: 8 }] }));
  await cdc.stop();
  // What is there keeps its partitions, whatever new topics get.
  const again = await pipeline.cdc({ env: { KAFKA_PARTITIONS: "8" } });
  await again.ready();
  await pipeline.sql("UPDATE t SET v = 'w' WHERE id <= 500; DELETE FROM t WHERE id > 900; TRUNCATE entries");
  await pipeline.expectEqual();
  expect((await counts(pipeline, "t")).slice(PARTITIONS)).toEqual([0, 0, 0, 0]);
  expect(again.log()).toContain("its changes stay in the first 4");
});

test("a topic that is made anew has as many partitions as it is to have, and every replica is filled from it", async () => {
  await using pipeline = await openPipeline({
    name: "remade",
    engines: ["postgres", "sqlite"],
    schema: (c) =>
      c.query(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'a' FROM generate_series(1, 500) AS n; CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)",
      ),
  });
  const cdc = await pipeline.cdc();
  for (const engine of ["postgres", "postgres", "sqlite"] as const) await pipeline.router(engine);
  await pipeline.expectEqual();
  await cdc.stop();
  const topic = topicOf(pipeline.name, { schema: "public", table: "t" });
  await withAdmin(pipeline.kafka.brokers, (admin) => admin.deleteTopics({ topics: [topic] }));
  await pipeline.sql("UPDATE t SET v = 'b' WHERE id < 100; DELETE FROM t WHERE id > 450");
  const again = await pipeline.cdc({ env });
  await again.ready();
  await pipeline.sql(
    "UPDATE t SET id = id + 1000 WHERE id < 50; INSERT INTO t SELECT n, 'c' FROM generate_series(2000, 2400) AS n; UPDATE other SET id = 2",
  );
  await pipeline.expectEqual();
  await pipeline.sql("TRUNCATE t; INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')");
  await pipeline.expectEqual();
  const offsets = await withAdmin(pipeline.kafka.brokers, (admin) => admin.fetchTopicOffsets(topic));
  expect(offsets.filter(({ high }) => Number(high) > 50)).toHaveLength(4);
});

const TABLES = ["a", "b", "c", "d", "e", "f"] as const;

test("routers that come and go move partitions without a stop of the others' tables", async () => {
  await using pipeline = await openPipeline({
    name: "moves",
    engines: ["postgres"],
    schema: (client) => client.query(TABLES.map((table) => `CREATE TABLE ${table} (id int PRIMARY KEY)`).join("; ")),
  });
  await (await pipeline.cdc({ env: { KAFKA_PARTITIONS: "2" } })).ready();
  const first = await pipeline.router("postgres");
  await pipeline.sql(TABLES.map((table) => `INSERT INTO ${table} VALUES (-1)`).join("; "));
  await pipeline.expectEqual();
  const stopping = new AbortController();
  const writing = (async () => {
    for (let n = 0; !stopping.signal.aborted; n++) {
      await pipeline.sql(TABLES.map((table) => `INSERT INTO ${table} VALUES (${n})`).join("; "));
      await Bun.sleep(20);
    }
  })();
  /** How long a table got no row at the longest, ms, while `work` went on and a while after. */
  const gapDuring = async (work: () => Promise<unknown>): Promise<number> => {
    const over = new AbortController();
    let longest = 0;
    const newest = new Map<string, { readonly id: number; readonly sinceMs: number }>();
    const watching = (async () => {
      while (!over.signal.aborted) {
        const each = TABLES.map((table) => `(SELECT max(id) FROM ${table}) AS ${table}`).join(", ");
        const [row = {}] = await pipeline.replicaServer.query(pipeline.name, `SELECT ${each}`);
        for (const [table, value] of Object.entries(row)) {
          const [id, nowMs, before] = [Number(value), performance.now(), newest.get(table)];
          if (before !== undefined) longest = Math.max(longest, nowMs - before.sinceMs);
          if (id !== before?.id) newest.set(table, { id, sinceMs: nowMs });
        }
        await Bun.sleep(10);
      }
    })();
    await work();
    await Bun.sleep(1_500);
    over.abort();
    await watching;
    return Math.round(longest);
  };
  const held = async (router: typeof first): Promise<number> => (await router.status().catch(() => null))?.partitions.length ?? 0;
  expect(await until(async () => (await held(first)) === 12, 30_000)).toBe(true);
  let second: typeof first | null = null;
  const joining = await gapDuring(async () => {
    second = await pipeline.router("postgres");
    const other = second;
    expect(await until(async () => (await held(other)) === 6 && (await held(first)) === 6, 30_000)).toBe(true);
  });
  const leaving = await gapDuring(async () => {
    await second?.stop();
    expect(await until(async () => (await held(first)) === 12, 30_000)).toBe(true);
  });
  stopping.abort();
  await writing;
  await pipeline.expectEqual();
  process.stderr.write(
    `longest time of a table without a row: ${joining} ms while a router joined, ${leaving} ms while it left\n`,
  );
  expect(joining).toBeLessThan(MOVES_WITHIN_MS);
  expect(leaving).toBeLessThan(MOVES_WITHIN_MS);
});
