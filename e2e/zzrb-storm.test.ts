import { setDefaultTimeout, test } from "bun:test";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { MOVING_SCHEMA, startMoving } from "./moving-rows.ts";
import { type Engine, openPipeline } from "./pipeline.ts";
import { RESHARD, router, run, type Shard, Shards, show, untilWhole } from "./zzrb-lab.ts";

/** STORM=engine,partitions,letters: rows that move, truncates, copies, two routers a shard, the command killed at any moment, cdc restarted. */
setDefaultTimeout(280_000);
const [engine = "postgres", partitions = "4", letters = "no"] = (process.env["STORM"] ?? "").split(",").filter((x) => x !== "");
const KEYS = "public.told=region,public.pairs=b,public.entries=region";

test(`storm ${engine} ${partitions} ${letters}`, async () => {
  const seed = seedFromEnvironment();
  const random = randomOf(seed);
  const name = `rb9_storm_${engine}_${partitions}_${letters}`;
  show(`seed ${seed}`);
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    env: { KAFKA_PARTITIONS: partitions },
    schema: (c) => c.query(`${MOVING_SCHEMA}; ALTER TABLE heavy REPLICA IDENTITY FULL; ALTER TABLE pairs REPLICA IDENTITY FULL; ALTER TABLE amounts REPLICA IDENTITY FULL; INSERT INTO pairs SELECT 1000 + n, (ARRAY['eu','uk','us','jp','br','in'])[1 + n % 6], n FROM generate_series(1, 600) n; INSERT INTO entries SELECT n, (ARRAY['eu','uk','us','jp','br','in'])[1 + n % 6] FROM generate_series(1, 600) n; INSERT INTO amounts SELECT 1000 + n, n FROM generate_series(1, 400) n`),
  });
  const more: Record<string, string> = { ROUTER_BATCH_ROWS: "200", ...(letters === "yes" ? { ROUTER_ON_ERROR: "dead-letter" } : {}) };
  const a = await shards.make("a", engine as Engine);
  const b = await shards.make("b", "sqlite");
  const c = await shards.make("c", engine as Engine);
  const d = await shards.make("d", "sqlite");
  let cdc = await pipeline.cdc({ env: { KAFKA_PARTITIONS: partitions, CDC_SNAPSHOT_CHUNK_ROWS: "20" } });
  await cdc.ready();
  const old = [await router(pipeline, a, "0/2", KEYS, more), await router(pipeline, a, "0/2", KEYS, more), await router(pipeline, b, "1/2", KEYS, more)];
  const writer = startMoving(pipeline.mainUrl, random);
  await Bun.sleep(4_000);
  const fresh = [await router(pipeline, c, "2/4", KEYS, more), await router(pipeline, c, "2/4", KEYS, more), await router(pipeline, d, "3/4", KEYS, more)];
  const copy = async (table: string, replica: string): Promise<void> => {
    const child = run(pipeline, a, "cdc/src/snapshot-command.ts", ["--tables", `public.${table}`, "--replica", replica]);
    const { code } = await child.exited;
    if (code !== 0) show(`copy of ${table} to ${replica}: ${code} ${child.log()}`);
  };
  const narrow = async (shard: Shard, part: string, beside: Shard, kills: number): Promise<void> => {
    for (let n = 0; ; n++) {
      const child = run(pipeline, shard, RESHARD, ["--shard", part, "--beside", beside.url], { ROUTER_BATCH_ROWS: "1" });
      const killer = n < kills ? setTimeout(() => child.signal("SIGKILL"), random.between(300, 2_500)) : null;
      const second = random.chance(0.12) ? run(pipeline, shard, RESHARD, ["--shard", part, "--beside", beside.url], { ROUTER_BATCH_ROWS: "9" }) : null;
      if (second !== null) show(`second command: ${(await second.exited).code} ${second.log().split("\n").slice(-4).join(" / ")}`);
      const { code, signal } = await child.exited;
      if (killer !== null) clearTimeout(killer);
      show(`${shard.name}, ${n}: ${code} ${signal} ${child.log().split("\n").slice(-3).join(" / ")}`);
      if (code === 0) return;
      if (n > 10) throw new Error(`never done: ${child.log()}`);
    }
  };
  const copies = (async () => {
    await copy("told", "a");
    await copy("entries", "c");
    await copy("heavy", "a");
    await copy("pairs", "c");
    await copy("amounts", "a");
  })();
  await narrow(a, "0/4", c, 5);
  const now = [await router(pipeline, a, "0/4", KEYS, more), await router(pipeline, a, "0/4", KEYS, more)];
  await cdc.kill();
  cdc = await pipeline.cdc({ env: { KAFKA_PARTITIONS: partitions, CDC_SNAPSHOT_CHUNK_ROWS: "20" } });
  await narrow(b, "1/4", d, 3);
  now.push(await router(pipeline, b, "1/4", KEYS, more));
  await copies;
  await copy("entries", "b");
  await Bun.sleep(3_000);
  show(`${await writer.stop()} changes`);
  for (const one of old) await one.kill();
  await untilWhole(pipeline, [a, b, c, d], null, 80_000);
  show(`whole: ${(await Promise.all(now.map((one) => one.status()))).map((s) => s.eventsTotal)} ${fresh.length}`);
});
