import { setDefaultTimeout, test } from "bun:test";
import { compareShards, isEqual } from "@cascade/local/canonical-state.ts";
import { until } from "@cascade/local/wait.ts";
import { shardOf } from "../shard-router/src/ownership.ts";
import { openPipeline } from "./pipeline.ts";
setDefaultTimeout(240_000);
const KEYS = "public.wide=tenant,public.ren=tenant,public.big=region,public.dl=region";
const say = (...a: unknown[]) => console.log("ZZ", ...a);
test("zz", async () => {
  await using p = await openPipeline({ name: "zz9", engines: ["postgres", "sqlite"],
    schema: async (c) => {
      await c.query(`CREATE TABLE wide (id int PRIMARY KEY, tenant text, ${Array.from({length:60},(_,i)=>`c${i} text`).join(", ")});
        INSERT INTO wide SELECT n, 'urn:tenant:' || gen_random_uuid(), ${Array.from({length:60},()=>`repeat('v', 40)`).join(", ")} FROM generate_series(1,20) n;
        CREATE TABLE ren (id int PRIMARY KEY, tenant text, v int); INSERT INTO ren SELECT n, 't'||(n%7), 0 FROM generate_series(1,40) n;
        CREATE TABLE pk (id int PRIMARY KEY, code text NOT NULL, v int); INSERT INTO pk SELECT n, 'c'||n, 0 FROM generate_series(1,40) n;
        CREATE TABLE dl (id int PRIMARY KEY, region text, v int); INSERT INTO dl SELECT n, 'eu', 0 FROM generate_series(1,5) n;
        CREATE TABLE big (id int PRIMARY KEY, region text, note text); ALTER TABLE big ALTER note SET STORAGE EXTERNAL;
        INSERT INTO big SELECT n, 'eu', repeat('y',3000) FROM generate_series(1,4000) n;`);
    } });
  await p.cdc({ env: { CDC_SNAPSHOT_CHUNK_ROWS: "20" } } as never);
  const envOf = (i: number) => ({ ROUTER_SHARD: `${i}/2`, ROUTER_SHARD_KEYS: KEYS, ROUTER_ON_ERROR: "dead-letter" });
  const routers = [await p.router("postgres", { env: envOf(0) }), await p.router("sqlite", { env: envOf(1) })];
  const other = ["us","uk","jp","br","in"].find((r) => shardOf(r, 2) !== shardOf("eu", 2)) as string;
  say("eu on", shardOf("eu",2), other, "on", shardOf(other,2));
  const owner = shardOf("eu", 2);
  const countBig = async () => Number((await p.replicaServer.query("zz9", "SELECT count(*)::int n FROM big").catch(() => [{ n: 0 }]))[0]?.["n"]);
  // scenario: rows move while the copy runs
  const status = async () => JSON.stringify((await Promise.all(routers.map((r) => r.status().catch(() => null)))).map((s) => s?.eventsTotal));
  await until(async () => ((await routers[owner]!.status().catch(() => null))?.eventsTotal ?? 0) > 300, 60_000, 20);
  say("at move", await status(), "postgres big", await countBig());
  await p.sql("UPDATE big SET region = $1 WHERE id <= 100", [other]);
  const diff = async (tables: string) => (await compareShards(p.mainUrl, p.replicas.map((r) => r.url), tables)).filter((t) => !isEqual(t));
  let last = "";
  const settle = async () => { for (let same = 0; same < 4; ) { await Bun.sleep(1500); const now = await status(); same = now === last ? same + 1 : 0; last = now; } };
  await settle();
  say("after copy", last, "held", JSON.stringify((await Promise.all(routers.map((r) => r.status()))).map((s: any) => s.tables ?? s.partitions).map((x) => JSON.stringify(x).match(/"(?:MISSING_ROW|SHARD_KEY)[^}]*/g))));
  say("BIG", JSON.stringify(await diff("public.big")));
  // toast
  say("WIDE before", JSON.stringify(await diff("public.wide")));
  await p.sql("UPDATE wide SET c0 = 'changed'");
  await p.sql("ALTER TABLE ren RENAME TO ren2"); await p.sql("UPDATE ren2 SET v = 1");
  await p.sql("ALTER TABLE pk DROP CONSTRAINT pk_pkey; ALTER TABLE pk ADD PRIMARY KEY (code)"); await p.sql("UPDATE pk SET v = 1 WHERE id <= 20"); await p.sql("DELETE FROM pk WHERE id > 20");
  await settle();
  say("WIDE", JSON.stringify(await diff("public.wide")));
  say("REN2", JSON.stringify(await diff("public.ren2")));
  say("PK", JSON.stringify(await diff("public.pk")));
  for (const r of routers) { const s: any = await r.status(); say(JSON.stringify(s).match(/[A-Z]+_[A-Z_]+:? [^"]{0,200}/g)); say(JSON.stringify(s.tables ?? s).slice(0, 1500)); }
  // dead letters without ROUTER_SHARD, on the postgres replica (shard 0)
  const mine = [ "eu", other ].find((r) => shardOf(r, 2) === 0) as string, theirs = [ "eu", other ].find((r) => shardOf(r, 2) === 1) as string;
  await p.sql("UPDATE dl SET region = $1", [mine]); await settle();
  say("DL rows on shard 0", JSON.stringify(await p.replicaServer.query("zz9", "SELECT * FROM dl ORDER BY id")));
  await p.replicaServer.query("zz9", "ALTER TABLE dl ADD CONSTRAINT no666 CHECK (v <> 666)");
  await p.sql("UPDATE dl SET v = 666 WHERE id = 1"); await settle();
  await p.sql("UPDATE dl SET v = 1, region = $1 WHERE id = 1", [theirs]); await settle();
  await p.replicaServer.query("zz9", "ALTER TABLE dl DROP CONSTRAINT no666");
  const url = p.replicas[0]!.url;
  const proc = Bun.spawnSync(["bun", "run", "--cwd", "shard-router", "dead-letters", "replay", "--all"], { cwd: "/tmp/rev9", env: { ...process.env, KAFKA_BROKERS: p.kafka.brokers, KAFKA_TOPIC_PREFIX: "zz9", REPLICA_URL: url, REPLICA_NAME: "postgres" } });
  say("DL replay exit", proc.exitCode, proc.stdout.toString(), proc.stderr.toString().slice(-600));
  say("DL", JSON.stringify(await diff("public.dl")), JSON.stringify(await p.replicaServer.query("zz9", "SELECT * FROM dl ORDER BY id")));
});
