import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import type { Service } from "@cascade/local/stack.ts";
import { Client } from "pg";
import { type Engine, openPipeline, type Pipeline, untilItApplies } from "../pipeline.ts";
import { distinctPositions, readTopic } from "../topics.ts";

/** P7: SIGTERM finishes the batch in hand within the deadline. */

// Each row is one message, so that a replica's rows and the messages before its progress can be counted.
const schema = (client: Client): Promise<unknown> =>
  client.query("CREATE TABLE ticks (id int, at timestamptz DEFAULT now(), filler text); ALTER TABLE ticks REPLICA IDENTITY FULL");

/** A copy of a table without a key begins with a message that is no row. */
const ROWS_ALONE = { CDC_SNAPSHOT: "never" };

/** Inserts rows one by one until it is stopped; resolves with how many. */
function startTicking(url: string): { stop(): Promise<number> } {
  let stopping = false;
  const running = (async () => {
    const client = new Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    let id = 0;
    for (; !stopping; id += 1) await client.query("INSERT INTO ticks VALUES ($1, now(), repeat('x', 100))", [id]);
    await client.end();
    return id;
  })();
  // A test that has failed takes main-db away: that is not what it is to say.
  running.catch(() => {});
  return {
    stop: () => {
      stopping = true;
      return running;
    },
  };
}

/** The rows that a replica has, and the offset up to which it says to have them. */
async function rowsAndProgress({ name, replicas, replicaServer }: Pipeline, engine: Engine): Promise<readonly [number, number]> {
  const counts = "SELECT (SELECT count(*) FROM ticks) AS rows, (SELECT next_offset FROM progress) AS next";
  if (engine === "postgres") {
    const [row] = await replicaServer.query(name, counts.replace("FROM progress", "FROM cascade.progress"));
    return [Number(row?.["rows"]), Number(row?.["next"])];
  }
  const url = replicas.find((replica) => replica.name === engine)?.url ?? "";
  const database = new Database(url.slice("sqlite://".length), { readonly: true });
  const row = database.query<Counts, []>(counts.replace("FROM progress", "FROM cascade_progress")).get();
  database.close();
  return [row?.rows ?? -1, row?.next ?? -2];
}

interface Counts {
  readonly rows: number;
  readonly next: number;
}

async function timed<T>(work: Promise<T>): Promise<readonly [T, number]> {
  const started = performance.now();
  return [await work, performance.now() - started];
}

test("under load each service exits with 0, its progress and its rows agree, and the next one goes on", async () => {
  await using pipeline = await openPipeline({ name: "p7_load", schema, env: ROWS_ALONE });
  const topic = `${pipeline.name}.public.ticks`;
  let cdc = await pipeline.cdc();
  await cdc.ready();
  let routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  await Promise.all(routers.map((router) => router.ready()));
  const ticking = startTicking(pipeline.mainUrl);
  await Promise.all(routers.map(untilItApplies));
  for (let round = 0; round < 3; round += 1) {
    await Promise.all([cdc, ...routers].map((service) => service.ready()));
    await Bun.sleep(700 + 137 * round);
    for (const service of [...routers, cdc]) {
      const [exit, tookMs] = await timed((service as Service<unknown>).kill("SIGTERM"));
      expect({ service: service.name, ...exit }).toEqual({ service: service.name, code: 0, signal: null });
      expect(tookMs).toBeLessThan(5_000);
    }
    const messages = await readTopic(pipeline.kafka.brokers, topic);
    for (const engine of ["postgres", "sqlite"] as const) {
      const [rows, next] = await rowsAndProgress(pipeline, engine);
      expect({ engine, rows }).toEqual({ engine, rows: distinctPositions(messages.slice(0, next)) });
      expect(rows).toBeGreaterThan(0);
    }
    cdc = await pipeline.cdc();
    routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  }
  const written = await ticking.stop();
  await pipeline.expectEqual();
  expect(distinctPositions(await readTopic(pipeline.kafka.brokers, topic))).toBe(written);
}, 90_000);

test("past the deadline it exits with 1, and nothing is lost", async () => {
  const env = { SHUTDOWN_TIMEOUT_MS: "1500" };
  await using pipeline = await openPipeline({ name: "p7_late", schema, env });
  const cdc = await pipeline.cdc();
  await cdc.ready();
  const [router] = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  const ticking = startTicking(pipeline.mainUrl);
  await untilItApplies(router);
  for (const [service, server] of [
    [router, pipeline.replicaServer],
    [cdc, pipeline.kafka],
  ] as const) {
    server.freeze();
    await Bun.sleep(500);
    const [exit, tookMs] = await timed((service as Service<unknown>).kill("SIGTERM"));
    server.thaw();
    expect({ service: service.name, ...exit }).toEqual({ service: service.name, code: 1, signal: null });
    expect(tookMs).toBeWithin(1_400, 4_000);
  }
  await Promise.all([pipeline.cdc(), pipeline.router("postgres")]);
  await ticking.stop();
  await pipeline.expectEqual();
}, 90_000);
