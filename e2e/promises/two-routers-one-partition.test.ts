import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { until } from "@cascade/local/wait.ts";
import { Client } from "pg";
import { moreChanges, startLoad } from "../load.ts";
import { openPipeline, type Pipeline } from "../pipeline.ts";

/** P6: two routers that hold one partition cannot both advance it. Rows of the audit table, which has no key, would be there twice. */

/** Longer than a router's session in its group, after which its partitions are the other's. */
const frozenMs = 17_000;

/** Lets no router write, as a slow replica would; resolves with what lets them again. */
async function holdReplicas({ replicas }: Pipeline): Promise<() => Promise<void>> {
  const [postgres, sqlite] = replicas;
  const client = new Client({ connectionString: postgres?.url ?? "" });
  await client.connect();
  await client.query("BEGIN; LOCK TABLE cascade.progress IN SHARE MODE");
  const database = new Database(sqlite?.url.slice("sqlite://".length) ?? "");
  database.run("PRAGMA busy_timeout = 10000");
  database.run("BEGIN IMMEDIATE");
  return async () => {
    await client.end();
    database.close();
  };
}

test("a router that was frozen past its session and thaws changes nothing", async () => {
  await using pipeline = await openPipeline({ name: "p6_two", schema: createDemoSchema });
  await (await pipeline.cdc()).ready();
  const engines = ["postgres", "sqlite"] as const;
  const pairs = await Promise.all(
    engines.map((engine) => Promise.all([pipeline.router(engine), pipeline.router(engine)] as const)),
  );
  const load = startLoad(pipeline.mainUrl, { seed: 6, changesPerSecond: 300 });
  await moreChanges(load, 600);
  const held = async (pair: (typeof pairs)[number]): Promise<readonly number[]> =>
    Promise.all(pair.map(async (router) => (await router.status().catch(() => null))?.partitions.length ?? 0));
  // Both of a pair have joined: each holds some of the five tables.
  for (const pair of pairs)
    expect(await until(async () => (await held(pair)).every((count) => count > 0 && count < 5), 30_000)).toBe(true);
  // So that each router is frozen with a batch in hand and more of them waiting, which all are old news when it thaws.
  const release = await holdReplicas(pipeline);
  await moreChanges(load, 300);
  await Bun.sleep(500);
  const frozen = pairs.map(([first]) => first);
  const others = pairs.map(([, second]) => second);
  for (const router of frozen) router.child.freeze();
  await release();
  await Bun.sleep(frozenMs);
  for (const other of others) expect(await until(async () => (await other.status()).partitions.length === 5, 15_000)).toBe(true);
  await moreChanges(load, 300);
  for (const router of frozen) router.child.thaw();
  await moreChanges(load, 600);
  await load.stop();
  await pipeline.expectEqual();
  for (const pair of pairs)
    expect(await until(async () => (await held(pair)).reduce((sum, count) => sum + count, 0) === 5, 30_000)).toBe(true);
}, 120_000);
