import { expect, setDefaultTimeout, test } from "bun:test";
import { compareReplica, compareShards, isEqual, type TableComparison } from "@cascade/local/canonical-state.ts";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { testMariadb } from "@cascade/local/servers.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { type Random, randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "./faults.ts";
import { startLoad } from "./load.ts";
import { type Engine, openPipeline, type Pipeline } from "./pipeline.ts";
import { reconnecting } from "./reconnecting.ts";
import { refusal } from "./refusals.ts";

/** ROUTER_SHARD on real servers: rows that move, truncates, schema changes and kills; together the shards are main-db, each row once. */

setDefaultTimeout(240_000);

const ENGINES: readonly Engine[] = findMariadb() === null ? ["postgres", "sqlite"] : ["postgres", "mariadb", "sqlite"];
const KEYS = [
  ...["public.products=*", "public.orders=customer_id", "public.order_items=order_id", "public.audit=actor"],
  ...["public.moving=region", "public.pairs=a+b"],
].join(",");
const DIVIDED = "public.*,!public.products";

const shardEnv = (at: number) => ({ ROUTER_SHARD: `${at}/${ENGINES.length}`, ROUTER_SHARD_KEYS: KEYS });

async function untilWhole(pipeline: Pipeline): Promise<void> {
  const urls = pipeline.replicas.map(({ url }) => url);
  let wrong: readonly TableComparison[] = [];
  const whole = async (): Promise<boolean> => {
    const found = [...(await compareShards(pipeline.mainUrl, urls, DIVIDED))];
    for (const url of urls) found.push(...(await compareReplica(pipeline.mainUrl, url, "public.products")));
    wrong = found.filter((table) => !isEqual(table));
    return wrong.length === 0;
  };
  const isWhole = await until(() => whole().catch(() => false), 90_000, 500);
  if (!isWhole) throw new Error(`the shards are not main-db: ${JSON.stringify(wrong)}\n${pipeline.logs()}`);
}

/** Rows whose shard key changes, that come and go, and a table that is emptied and changed. */
function startMoving(url: string, random: Random): { stop(): Promise<number> } {
  const stopping = new AbortController();
  let moves = 0;
  const running = reconnecting(url, stopping.signal, async (client) => {
    for (let n = 0; !stopping.signal.aborted; n++) {
      const id = random.between(1, 200);
      const region = random.pick(["eu", "uk", "us", "jp", "br", "in"]);
      await client.query(
        `INSERT INTO moving (id, region, note) VALUES ($1, $2, repeat('x', 3000)) ON CONFLICT (id) DO UPDATE SET region = excluded.region`,
        [id, region],
      );
      if (random.chance(0.2))
        await client.query("UPDATE moving SET id = id + 1000 WHERE id = $1", [random.between(1, 200)]).catch(() => undefined);
      if (random.chance(0.2)) await client.query("DELETE FROM moving WHERE id > 1000 AND id % 3 = 0");
      await client.query("INSERT INTO pairs VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [id, region, n]);
      if (random.chance(0.3))
        await client.query(
          "UPDATE pairs SET b = $2 WHERE (a, b) = (SELECT a, b FROM pairs WHERE a = $1 LIMIT 1) AND NOT EXISTS (SELECT FROM pairs p WHERE p.a = $1 AND p.b = $2)",
          [random.between(1, 200), region],
        );
      if (random.chance(0.01)) await client.query("TRUNCATE pairs");
      moves++;
    }
  });
  return {
    stop: async () => {
      stopping.abort();
      await running;
      return moves;
    },
  };
}

test("shards on different engines are together main-db, whatever moves and whoever is killed", async () => {
  const seed = seedFromEnvironment();
  const say = (line: string): void => void process.stderr.write(`shards, CASCADE_SEED=${seed}: ${line}\n`);
  const random = randomOf(seed);
  await using pipeline = await openPipeline({
    name: "shards",
    engines: ENGINES,
    schema: async (client) => {
      await createDemoSchema(client);
      await client.query("ALTER TABLE orders REPLICA IDENTITY FULL");
      await client.query(`CREATE TABLE moving (id int PRIMARY KEY, region text, note text); ALTER TABLE moving REPLICA IDENTITY FULL;
        ALTER TABLE moving ALTER COLUMN note SET STORAGE EXTERNAL;
        CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (a, b));
        INSERT INTO moving SELECT n, 'eu', repeat('y', 3000) FROM generate_series(1, 150) AS n`);
    },
  });
  const cdc = await pipeline.cdc();
  await cdc.ready();
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 200 });
  const moving = startMoving(pipeline.mainUrl, randomOf(seed + 1));
  let first: typeof cdc | null = cdc;
  const running = new Map<Engine, Service<RouterStatus>>();
  const routers: Victim[] = [];
  for (const [at, engine] of ENGINES.entries()) {
    const start = async () => {
      const router = await pipeline.router(engine, { env: shardEnv(at) });
      running.set(engine, router);
      return router;
    };
    routers.push(await serviceVictim(`shard ${at}, ${engine}`, start));
  }
  const capture = await serviceVictim("cdc", async () => {
    const started = first ?? (await pipeline.cdc());
    first = null;
    return started;
  });
  await strike({ random, victims: [...routers, capture], rounds: 1, pauseMs: 2_000, awayMs: 1_000, say });
  await pipeline.sql("ALTER TABLE moving ADD COLUMN extra int DEFAULT 7; ALTER TABLE pairs RENAME COLUMN n TO number");
  await strike({ random, victims: routers, rounds: 1, pauseMs: 1_000, awayMs: 500, say });
  const [changes, moves] = [await load.stop(), await moving.stop()];
  say(`${changes} changes, ${moves} moves`);
  await untilWhole(pipeline);

  // Everybody can say whose a row is: in main-db's SQL, and in each engine's own.
  const owner = "('x' || left(md5(customer_id::text), 8))::bit(32)::bigint % $1";
  const [{ n } = { n: 0 }] = await pipeline.sql(`SELECT count(*)::int AS n FROM orders WHERE ${owner} = 0`, [ENGINES.length]);
  const stray = (rows: readonly Readonly<Record<string, unknown>>[]): number => Number(rows[0]?.["n"]);
  expect(
    stray(
      await pipeline.replicaServer.query("shards", `SELECT count(*)::int AS n FROM orders WHERE ${owner} <> 0`, [ENGINES.length]),
    ),
  ).toBe(0);
  expect(stray(await pipeline.replicaServer.query("shards", "SELECT count(*)::int AS n FROM orders"))).toBe(Number(n));
  const mariadb = await testMariadb();
  if (mariadb !== null) {
    const others = `SELECT count(*) AS n FROM orders WHERE CONV(LEFT(MD5(customer_id), 8), 16, 10) % ${ENGINES.length} <> 1`;
    expect(stray(await mariadb.query("shards", others))).toBe(0);
    expect(stray(await mariadb.query("shards", "SELECT count(*) AS n FROM orders"))).toBeGreaterThan(0);
  }
});

test("a replica holds one part for ever: another is refused with the cure", async () => {
  await using pipeline = await openPipeline({
    name: "shard_kept",
    engines: ["sqlite"],
    schema: (client) => client.query("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)"),
  });
  await pipeline.cdc();
  const router = await pipeline.router("sqlite", { env: { ROUTER_SHARD: "1/2" } });
  const [{ n: expected } = { n: 0 }] = await pipeline.sql(
    "SELECT count(*)::int AS n FROM t WHERE ('x' || left(md5(id::text), 8))::bit(32)::bigint % 2 = 1",
  );
  const applied = async () => (await router.status().catch(() => null))?.eventsTotal ?? 0;
  expect(await until(async () => (await applied()) === Number(expected), 30_000)).toBe(true);
  expect(Number(expected)).toBeWithin(30, 70);
  await router.stop();
  for (const env of [{ ROUTER_SHARD: "0/2" }, {}, { ROUTER_SHARD: "1/2", ROUTER_SHARD_KEYS: "public.t=*" }]) {
    const [finding] = await refusal(await pipeline.router("sqlite", { env }));
    expect(finding?.code).toBe("SHARD_CHANGED");
    expect(finding?.msg).toContain('holds the part "1/2"');
  }
  const again = await pipeline.router("sqlite", { env: { ROUTER_SHARD: "1/2" } });
  await again.ready();
});
