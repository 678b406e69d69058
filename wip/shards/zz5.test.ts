import { setDefaultTimeout, test } from "bun:test";
import { compareShards, isEqual } from "@cascade/local/canonical-state.ts";
import { shardOf } from "../shard-router/src/ownership.ts";
import { openPipeline } from "./pipeline.ts";
setDefaultTimeout(240_000);
const say = (...a: unknown[]) => console.log("Z5", ...a);
test("zz5", async () => {
  await using p = await openPipeline({ name: "zz95", engines: ["postgres", "sqlite"],
    schema: (c) => c.query(`CREATE TABLE m (id int PRIMARY KEY, region text, note text); ALTER TABLE m ALTER note SET STORAGE EXTERNAL;
        INSERT INTO m SELECT n, 'eu', repeat('y',3000) FROM generate_series(1,40) n;
        CREATE TABLE sw (id int PRIMARY KEY, region text, v int); ALTER TABLE sw REPLICA IDENTITY FULL; INSERT INTO sw SELECT n, 'r'||(n%7), 0 FROM generate_series(1,40) n;`) });
  const cdc = await p.cdc(); await cdc.ready();
  const engines = ["postgres", "sqlite"] as const; const routers: any[] = [];
  for (const [i, e] of engines.entries()) routers.push(await p.router(e, { env: { ROUTER_SHARD: `${i}/2`, ROUTER_SHARD_KEYS: "public.*=region" } }));
  const other = ["us","uk","jp","br","in"].find((r) => shardOf(r, 2) !== shardOf("eu", 2)) as string; const target = shardOf(other, 2);
  const status = async () => JSON.stringify((await Promise.all(routers.map((r) => r.status().catch(() => null)))).map((s) => s?.eventsTotal));
  let last = "";
  const settle = async () => { for (let same = 0; same < 4; ) { await Bun.sleep(1000); const now = await status(); same = now === last ? same + 1 : 0; last = now; } };
  const diff = async (t: string) => (await compareShards(p.mainUrl, p.replicas.map((r) => r.url), t)).filter((t) => !isEqual(t));
  const states = async () => say(JSON.stringify(await Promise.all(routers.map(async (r) => (await r.status()).tables.map((t: any) => [t.table, t.state, t.error?.code])))));
  await settle();
  await p.sql("ALTER TABLE sw RENAME region TO old_region; ALTER TABLE sw ADD COLUMN region text"); await p.sql("UPDATE sw SET v = 1");
  await p.sql("UPDATE m SET region = $1 WHERE id <= 5", [other]); await settle(); await states(); say("SW", JSON.stringify(await diff("public.sw")));
  say("M held", JSON.stringify(await diff("public.m")));
  const cli = Bun.spawnSync(["bun", "run", "--cwd", "cdc", "snapshot", "--", "--tables", "public.m", "--replica", engines[target]!], { cwd: "/tmp/rev9", timeout: 20000, env: { ...process.env, KAFKA_BROKERS: p.kafka.brokers, KAFKA_TOPIC_PREFIX: "zz95", CDC_DATABASE_URL: p.mainUrl, CDC_SLOT: "zz95" } });
  say("copy asked", cli.exitCode); await Bun.sleep(8000); await settle(); await states(); say("M after copy", JSON.stringify(await diff("public.m")));
  // stray rows and a whole-table copy without --replica
  const cli2 = Bun.spawnSync(["bun", "run", "--cwd", "cdc", "snapshot", "--", "--tables", "public.sw"], { cwd: "/tmp/rev9", timeout: 20000, env: { ...process.env, KAFKA_BROKERS: p.kafka.brokers, KAFKA_TOPIC_PREFIX: "zz95", CDC_DATABASE_URL: p.mainUrl, CDC_SLOT: "zz95" } });
  await settle(); say("SW after a copy for all", JSON.stringify(await diff("public.sw")));
});
