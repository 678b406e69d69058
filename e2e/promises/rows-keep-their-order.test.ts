import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { randomOf } from "@cascade/workload/random";
import { Client } from "pg";
import { openPipeline } from "../pipeline.ts";

/** P3: a row's changes apply in commit order. Every change of a row raises its version. */

const rows = 12;
const writers = 3;

const schema = (client: Client): Promise<unknown> =>
  client.query("CREATE TABLE counters (id int PRIMARY KEY, version int NOT NULL, filler text)");

/** One of several that change the same rows, also by deleting them and making them anew. Resolves with its number of commits. */
async function write(url: string, seed: number, signal: AbortSignal): Promise<number> {
  const random = randomOf(seed);
  const client = new Client({ connectionString: url });
  await client.connect();
  let commits = 0;
  for (; !signal.aborted; commits += 1) {
    const id = random.between(1, rows);
    if (random.chance(0.1)) await makeAnew(client, id);
    else await client.query("UPDATE counters SET version = version + 1, filler = $2 WHERE id = $1", [id, random.hex(20)]);
  }
  await client.end();
  return commits;
}

async function makeAnew(client: Client, id: number): Promise<void> {
  await client.query("BEGIN");
  const { rows: gone } = await client.query<Version>("DELETE FROM counters WHERE id = $1 RETURNING version", [id]);
  for (const { version } of gone) await client.query("INSERT INTO counters VALUES ($1, $2, 'anew')", [id, version + 1]);
  await client.query("COMMIT");
}

/** Looks at a replica all the time; resolves with the versions that fell and the number of those that rose. */
async function watch(look: () => Promise<readonly Version[]>, signal: AbortSignal): Promise<Watched> {
  const last = new Map<number, number>();
  const falls: string[] = [];
  let rises = 0;
  while (!signal.aborted) {
    for (const { id, version } of await look()) {
      const before = last.get(id) ?? 0;
      if (version < before) falls.push(`row ${id} fell from ${before} to ${version}`);
      if (version > before) rises += 1;
      last.set(id, version);
    }
    await Bun.sleep(5);
  }
  return { falls, rises };
}

interface Version {
  readonly id: number;
  readonly version: number;
}
interface Watched {
  readonly falls: readonly string[];
  readonly rises: number;
}

test("versions only grow on the replicas, also when a router is killed and another takes over", async () => {
  await using pipeline = await openPipeline({ name: "p3_order", schema });
  const cdc = await pipeline.cdc();
  await cdc.ready();
  const routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  await Promise.all(routers.map((router) => router.ready()));
  await pipeline.sql("INSERT INTO counters SELECT id, 1, '' FROM generate_series(1, $1::int) id", [rows]);
  await pipeline.expectEqual();
  const stop = new AbortController();
  const writing = Array.from({ length: writers }, (_, at) => write(pipeline.mainUrl, at, stop.signal));
  const postgres = new Client({ connectionString: pipeline.replicas[0]?.url ?? "" });
  await postgres.connect();
  const sqlite = new Database(pipeline.replicas[1]?.url.slice("sqlite://".length) ?? "", { readonly: true });
  const query = "SELECT id, version FROM counters";
  const watching = [
    watch(async () => (await postgres.query<Version>(query)).rows, stop.signal),
    watch(async () => sqlite.query<Version, []>(query).all(), stop.signal),
  ];
  await Bun.sleep(3_000);
  for (const router of routers) await router.kill();
  await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  await cdc.kill();
  await pipeline.cdc();
  await Bun.sleep(4_000);
  stop.abort();
  const commits = (await Promise.all(writing)).reduce((sum, count) => sum + count, 0);
  for (const { falls, rises } of await Promise.all(watching)) {
    expect(falls).toEqual([]);
    expect(rises).toBeGreaterThan(50);
  }
  await postgres.end();
  sqlite.close();
  await pipeline.expectEqual();
  expect(commits).toBeGreaterThan(500);
}, 120_000);
