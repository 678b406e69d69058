import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { spawnChild } from "@cascade/local/child.ts";
import { repository } from "@cascade/local/paths.ts";
import type { RouterStatus, TableStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { deadLettersTopic } from "@cascade/shared/topic";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { expectNoSecret } from "./refusals.ts";
import { readTopic } from "./topics.ts";

/** ROUTER_ON_ERROR=dead-letter from end to end: routers killed in the middle, the command beside them, and every row right in the end. */

setDefaultTimeout(180_000);

const engines = ["postgres", "sqlite"] as const;
type Engine = (typeof engines)[number];

const ROWS = 60;
const env = { ROUTER_ON_ERROR: "dead-letter", ROUTER_BATCH_ROWS: "40" };
const sane = "CHECK (length(v) < 15)";
const tables = `CREATE TABLE sick (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY, v text)`;

async function onReplica({ name, replicas, replicaServer }: Pipeline, engine: Engine, sql: string): Promise<void> {
  if (engine === "postgres") return void (await replicaServer.query(name, sql));
  const url = replicas.find((replica) => replica.name === engine)?.url ?? "";
  using file = new Database(url.replace("sqlite://", ""), { create: true });
  file.run("PRAGMA busy_timeout = 10000");
  file.run(sql);
}

async function cure(pipeline: Pipeline): Promise<void> {
  await onReplica(pipeline, "postgres", "ALTER TABLE sick DROP CONSTRAINT sane");
  const steps = "CREATE TABLE s (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO s SELECT * FROM sick; DROP TABLE sick";
  await onReplica(pipeline, "sqlite", `BEGIN IMMEDIATE; ${steps}; ALTER TABLE s RENAME TO sick; COMMIT`);
}

const sickOf = async (router: Service<RouterStatus>): Promise<TableStatus | null> =>
  (await router.status().catch(() => null))?.tables.find(({ table }) => table === "public.sick") ?? null;

async function deadLetters(pipeline: Pipeline, engine: Engine, ...args: readonly string[]) {
  const { name, kafka, replicas } = pipeline;
  const child = spawnChild([process.execPath, join(repository, "shard-router/src/dead-letters-command.ts"), ...args], {
    cwd: repository,
    env: {
      ...process.env,
      ...{ KAFKA_BROKERS: kafka.brokers, KAFKA_TOPIC_PREFIX: name, REPLICA_NAME: engine },
      REPLICA_URL: replicas.find((replica) => replica.name === engine)?.url,
    },
  });
  const { code } = await child.exited;
  return { code, said: child.log() };
}

/** Changes of rows by chance, some of which a replica with the constraint refuses; until `stop`. */
function startChanges(pipeline: Pipeline) {
  let isOver = false;
  let count = 0;
  const running = (async () => {
    for (let seed = 7; !isOver; count++) {
      seed = (seed * 48_271) % 2_147_483_647;
      const id = seed % ROWS;
      const v = seed % 11 === 0 ? `r0w-value-too-long ${count}` : `fine ${count}`;
      const put = "INSERT INTO sick VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v";
      if (seed % 13 === 0) await pipeline.sql("DELETE FROM sick WHERE id = $1", [id]);
      else if (seed % 17 === 0)
        await pipeline.sql("UPDATE sick SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM sick WHERE id = $2)", [
          id,
          ROWS - id,
        ]);
      else await pipeline.sql(put, [id, v]);
      if (seed % 5 === 0) await pipeline.sql("INSERT INTO other VALUES ($1, 'x') ON CONFLICT DO NOTHING", [count]);
    }
  })();
  return {
    made: () => count,
    stop: async () => {
      isOver = true;
      await running;
    },
  };
}

test("rows that are refused are held back, whatever is killed; replayed beside the running routers, nothing was lost", async () => {
  await using pipeline = await openPipeline({ name: "dead_letters", schema: (client) => client.query(tables) });
  await onReplica(pipeline, "postgres", `CREATE TABLE sick (id int PRIMARY KEY, v text CONSTRAINT sane ${sane})`);
  await onReplica(pipeline, "sqlite", `CREATE TABLE sick (id INTEGER PRIMARY KEY, v TEXT ${sane})`);
  await (await pipeline.cdc()).ready();
  const routers = {
    postgres: await pipeline.router("postgres", { env }),
    sqlite: await pipeline.router("sqlite", { env }),
  };
  const changes = startChanges(pipeline);
  for (let kill = 0; kill < 3; kill++) {
    const made = changes.made();
    expect(await until(() => changes.made() > made + 120, 60_000)).toBe(true);
    for (const engine of engines) {
      await routers[engine].kill();
      routers[engine] = await pipeline.router(engine, { env });
    }
  }
  for (const engine of engines) {
    const router = routers[engine];
    expect(await until(async () => ((await sickOf(router))?.heldKeys ?? 0) > 0, 40_000)).toBe(true);
    expect(await sickOf(router)).toMatchObject({ state: "keys-held", error: null });
    expect((await fetch(`${router.httpUrl}/health/ready`)).status).toBe(503);
    const metrics = await (await fetch(`${router.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/cascade_router_table_state\{[^}]*table="public.sick"[^}]*state="keys-held"[^}]*\} 1/);
    expect(metrics).toMatch(/cascade_router_held_keys\{[^}]*table="public.sick"[^}]*\} [1-9]/);
    expectNoSecret(JSON.stringify(await router.status()) + router.log() + metrics);
    const { code, said } = await deadLetters(pipeline, engine, "list");
    expect([code, said]).toEqual([0, expect.stringContaining("CONSTRAINT_VIOLATED")]);
    expectNoSecret(said);
    // Refused again.
    expect((await deadLetters(pipeline, engine, "replay")).code).toBe(1);
  }
  const [letter] = await readTopic(pipeline.kafka.brokers, deadLettersTopic("dead_letters", "postgres"));
  const headers = Object.fromEntries(Object.entries(letter?.headers ?? {}).map(([name, value]) => [name, String(value)]));
  expect(headers).toMatchObject({
    "cascade.topic": "dead_letters.public.sick",
    "cascade.error.code": "CONSTRAINT_VIOLATED",
    traceparent: expect.stringMatching(/^00-/),
  });
  const original = await readTopic(pipeline.kafka.brokers, "dead_letters.public.sick");
  const source = original.find(({ offset }) => offset === headers["cascade.offset"]);
  expect([letter?.key, letter?.value]).toEqual([source?.key, source?.value]);

  await cure(pipeline);
  // Routers and changes go on meanwhile; and a replay that is killed in its middle is only a part of one.
  for (const engine of engines) {
    const { name, replicas, kafka } = pipeline;
    const url = replicas.find((replica) => replica.name === engine)?.url;
    const killed = spawnChild([process.execPath, join(repository, "shard-router/src/dead-letters-command.ts"), "replay"], {
      cwd: repository,
      env: { ...process.env, KAFKA_BROKERS: kafka.brokers, KAFKA_TOPIC_PREFIX: name, REPLICA_NAME: engine, REPLICA_URL: url },
    });
    await Bun.sleep(engine === "postgres" ? 700 : 900);
    await killed.killTree();
    const { code, said } = await deadLetters(pipeline, engine, "replay");
    expect([code, said]).toEqual([0, expect.stringContaining("0 keys held back still")]);
  }
  await changes.stop();
  for (const engine of engines) await deadLetters(pipeline, engine, "replay");
  await pipeline.expectEqual();
  for (const engine of engines) {
    expect(await until(async () => (await routers[engine].status()).ready, 20_000)).toBe(true);
    expect(await sickOf(routers[engine])).toMatchObject({ state: "live", heldKeys: 0 });
  }
});

test("what is discarded is mended by a copy of the key, as the command says", async () => {
  await using pipeline = await openPipeline({ name: "discarded", schema: (client) => client.query(tables) });
  await onReplica(pipeline, "postgres", `CREATE TABLE sick (id int PRIMARY KEY, v text CONSTRAINT sane ${sane})`);
  await onReplica(pipeline, "sqlite", `CREATE TABLE sick (id INTEGER PRIMARY KEY, v TEXT ${sane})`);
  await (await pipeline.cdc()).ready();
  const routers = [await pipeline.router("postgres", { env }), await pipeline.router("sqlite", { env })];
  await pipeline.sql("INSERT INTO sick VALUES (1, 'fine'), (2, 'r0w-value-too-long')");
  await pipeline.sql("UPDATE sick SET v = 'r0w-value-too-long' WHERE id = 1");
  for (const router of routers) expect(await until(async () => (await sickOf(router))?.heldKeys === 2, 40_000)).toBe(true);
  for (const engine of engines) {
    expect((await deadLetters(pipeline, engine, "discard")).code).toBe(78);
    const { code, said } = await deadLetters(pipeline, engine, "discard", "--key", '{"id":1}');
    expect(code).toBe(0);
    expect(said).toContain("THE REPLICA IS NOT WHAT MAIN-DB IS");
    expect(said).toContain(`snapshot -- --tables 'public.sick' --from '{"id":1}' --to '{"id":1}'`);
  }
  await cure(pipeline);
  const bounds = ["--from", '{"id":1}', "--to", '{"id":1}', "--wait"];
  const copy = spawnChild(
    [process.execPath, join(repository, "cdc/src/snapshot-command.ts"), "--tables", "public.sick", ...bounds],
    {
      cwd: repository,
      env: {
        ...process.env,
        ...{ KAFKA_BROKERS: pipeline.kafka.brokers, KAFKA_TOPIC_PREFIX: pipeline.name, CDC_DATABASE_URL: pipeline.mainUrl },
      },
    },
  );
  expect((await copy.exited).code).toBe(0);
  for (const engine of engines) {
    const { code, said } = await deadLetters(pipeline, engine, "replay");
    expect([code, said]).toEqual([0, expect.stringContaining("1 key released")]);
  }
  await pipeline.expectEqual();
});
