import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { until } from "@cascade/local/wait.ts";
import { moreChanges, startLoad } from "../load.ts";
import { openPipeline } from "../pipeline.ts";

/** P6: two routers that hold one partition cannot both advance it. Rows of the audit table, which has no key, would be there twice. */

/** Longer than a router's session in its group, after which its partitions are the other's. */
const frozenMs = 17_000;

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
    Promise.all(pair.map(async (router) => (await router.status()).partitions.length));
  // Both of a pair have joined: each holds some of the five tables.
  for (const pair of pairs)
    expect(await until(async () => (await held(pair)).every((count) => count > 0 && count < 5), 30_000)).toBe(true);
  const frozen = pairs.map(([first]) => first);
  const others = pairs.map(([, second]) => second);
  for (const router of frozen) router.child.freeze();
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
