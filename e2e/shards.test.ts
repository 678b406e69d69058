import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { compareReplica, compareShards, isEqual } from "@cascade/local/canonical-state.ts";
import { spawnChild } from "@cascade/local/child.ts";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { repository } from "@cascade/local/paths.ts";
import { testMariadb } from "@cascade/local/servers.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { partOf } from "@cascade/shared/key-parts";
import { type Random, randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "./faults.ts";
import { startLoad } from "./load.ts";
import { MOVING_SCHEMA, startMoving as startMovingRows } from "./moving-rows.ts";
import { type Engine, openPipeline, type Pipeline } from "./pipeline.ts";
import { reconnecting } from "./reconnecting.ts";
import { held, refusal } from "./refusals.ts";
import { untilWhole as untilShardsAreWhole } from "./until-whole.ts";

/** ROUTER_SHARD on real servers: rows that move, truncates, schema changes and kills; together the shards are main-db, each row once. */

setDefaultTimeout(240_000);

const ENGINES: readonly Engine[] = findMariadb() === null ? ["postgres", "sqlite"] : ["postgres", "mariadb", "sqlite"];
const KEYS = [
  ...["public.products=*", "public.orders=customer_id", "public.order_items=order_id", "public.audit=actor"],
  ...["public.moving=region", "public.pairs=a+b"],
].join(",");
/** Of each shard: each has the four partitions of every table. */
const ROUTERS = [3, 2, 1] as const;
const PAUSE_MS = 5;
const DIVIDED = "public.*,!public.products";

const shardEnv = (at: number) => ({ ROUTER_SHARD: `${at}/${ENGINES.length}`, ROUTER_SHARD_KEYS: KEYS });

/** Until the shards are main-db together, each row once, and the tables of `everywhere` whole on each. */
const untilWhole = (pipeline: Pipeline, divided = DIVIDED, everywhere = "public.products"): Promise<void> =>
  untilShardsAreWhole(pipeline, { urls: pipeline.replicas.map(({ url }) => url), divided, everywhere });

/** Shards of these engines by the same rules; `env` of all of them. */
const startShards = (pipeline: Pipeline, engines: readonly Engine[], env: Readonly<Record<string, string>>) =>
  Promise.all(engines.map((engine, at) => pipeline.router(engine, { env: { ROUTER_SHARD: `${at}/${engines.length}`, ...env } })));

/** Values that hash to the first and the second of two shards. */
const [FIRST, SECOND] = [0, 1].map((shard) => ["eu", "us", "uk", "jp", "br", "in"].find((text) => partOf(text, 2) === shard)) as [
  string,
  string,
];

async function applied(router: Service<RouterStatus>): Promise<number> {
  return (await router.status().catch(() => null))?.eventsTotal ?? 0;
}

/** Rows whose shard key changes, that come and go, and a table that is emptied and changed. */
function startMoving(url: string, random: Random): { stop(): Promise<number> } {
  const stopping = new AbortController();
  let moves = 0;
  const running = reconnecting(url, stopping.signal, async (client) => {
    for (let n = 0; !stopping.signal.aborted; n++) {
      await Bun.sleep(PAUSE_MS); // what a slow machine is to catch up with is not to depend on how fast it writes
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
      if (random.chance(0.005)) await client.query("TRUNCATE moving, pairs");
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
  const env = { KAFKA_PARTITIONS: "4" };
  const cdc = await pipeline.cdc({ env });
  await cdc.ready();
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 200 });
  const moving = startMoving(pipeline.mainUrl, randomOf(seed + 1));
  let first: typeof cdc | null = cdc;
  const routers: Victim[] = [];
  for (const [at, engine] of ENGINES.entries())
    for (let number = 0; number < (ROUTERS[at] ?? 1); number++)
      routers.push(
        await serviceVictim(`router ${number} of shard ${at}, ${engine}`, () => pipeline.router(engine, { env: shardEnv(at) })),
      );
  const capture = await serviceVictim("cdc", async () => {
    const started = first ?? (await pipeline.cdc({ env }));
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

const TWO = ["postgres", "sqlite"] as const;

test("rows that move between shards while a copy runs are on one of them", async () => {
  await using pipeline = await openPipeline({
    name: "shards_copied",
    engines: TWO,
    schema: (client) =>
      client.query(`CREATE TABLE big (id int PRIMARY KEY, region text, note text); ALTER TABLE big REPLICA IDENTITY FULL;
        CREATE TABLE keyed (region text, id int, note text, PRIMARY KEY (region, id));
        ALTER TABLE big ALTER note SET STORAGE EXTERNAL; ALTER TABLE keyed ALTER note SET STORAGE EXTERNAL;
        INSERT INTO big SELECT n, '${FIRST}', repeat('y', 3000) FROM generate_series(1, 3000) AS n;
        INSERT INTO keyed SELECT '${FIRST}', n, repeat('y', 3000) FROM generate_series(1, 3000) AS n`),
  });
  await pipeline.cdc({ env: { CDC_SNAPSHOT_CHUNK_ROWS: "20" } });
  const [first, second] = await startShards(pipeline, TWO, { ROUTER_SHARD_KEYS: "public.*=region" });
  expect(await until(async () => (await applied(first as Service<RouterStatus>)) > 200, 60_000, 20)).toBe(true);
  const move = (table: string, low: number, high: number, region: string) =>
    pipeline.sql(`UPDATE ${table} SET region = $1 WHERE id BETWEEN $2 AND $3`, [region, low, high]);
  for (const table of ["big", "keyed"]) {
    await move(table, 1, 100, SECOND); // copied already
    await move(table, 2_800, 3_000, SECOND); // not copied yet
    await move(table, 50, 60, FIRST);
    await move(table, 2_900, 2_950, FIRST);
  }
  expect(await applied(first as Service<RouterStatus>)).toBeLessThan(6_000);
  await untilWhole(pipeline, "public.*", "public.none");

  // Once it is copied, a key that changes comes without the large value that it leaves as it is: half a row is never written.
  await pipeline.sql("UPDATE keyed SET region = $1 WHERE id = 1500", [SECOND]);
  expect(await held(second as Service<RouterStatus>, "public.keyed")).toMatchObject({ code: "MISSING_ROW" });
  await pipeline.sql("UPDATE big SET region = $1 WHERE id = 1500", [SECOND]); // with the old row all of it is there
  await untilWhole(pipeline, "public.big", "public.none");
  expect(await snapshot(pipeline, "public.keyed", "--replica", "sqlite")).toMatchObject({ code: 0 });
  await untilWhole(pipeline, "public.*", "public.none");
});

test("what a schema change divides anew is emptied and copied: together the shards are main-db again", async () => {
  await using pipeline = await openPipeline({
    name: "shards_anew",
    engines: TWO,
    schema: (client) =>
      client.query(`CREATE TABLE renamed (id int PRIMARY KEY, tenant text, v int); ALTER TABLE renamed REPLICA IDENTITY FULL;
        CREATE TABLE columns (id int PRIMARY KEY, region text, v int); ALTER TABLE columns REPLICA IDENTITY FULL;
        CREATE TABLE keyed (id int PRIMARY KEY, code text NOT NULL, v int);
        CREATE TABLE typed (id numeric(10, 2) PRIMARY KEY, v int);
        CREATE TABLE upper (id int PRIMARY KEY, region text, v int); ALTER TABLE upper REPLICA IDENTITY FULL;
        CREATE TABLE again (id int PRIMARY KEY, region text, v int); ALTER TABLE again REPLICA IDENTITY FULL;
        CREATE TABLE late (id int PRIMARY KEY, v int);
        INSERT INTO renamed SELECT n, 't' || n % 7, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO columns SELECT n, 'r' || n % 7, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO keyed SELECT n, 'c' || n, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO typed SELECT n, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO upper SELECT n, 'r' || n % 7, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO again SELECT n, 'r' || n % 7, 0 FROM generate_series(1, 40) AS n;
        INSERT INTO late SELECT n, 0 FROM generate_series(1, 40) AS n`),
  });
  const cdc = await pipeline.cdc();
  await cdc.ready();
  const keys = "public.renamed=tenant,public.columns=region,public.upper=region,public.again=region,public.late=region";
  const env = { ROUTER_SHARD_KEYS: keys };
  const first = await pipeline.router("postgres", { env: { ROUTER_SHARD: "0/2", ...env } });
  expect(await held(first, "public.late")).toMatchObject({ code: "SHARD_KEY" });
  // From before it could be divided: whoever comes later reads that of the topic, too.
  await pipeline.sql("ALTER TABLE late ADD COLUMN region text DEFAULT 'eu'; ALTER TABLE late REPLICA IDENTITY FULL");
  await pipeline.sql("UPDATE late SET region = 'us' WHERE id < 10");
  const second = await pipeline.router("sqlite", { env: { ROUTER_SHARD: "1/2", ...env } });
  await untilWhole(pipeline, "public.*", "public.none");
  await pipeline.sql(
    "ALTER TABLE renamed RENAME TO other; UPDATE other SET v = 1 WHERE id < 30; DELETE FROM other WHERE id > 35",
  );
  await pipeline.sql("ALTER TABLE columns RENAME region TO old_region; ALTER TABLE columns ADD COLUMN region text");
  await pipeline.sql(
    "UPDATE columns SET v = 1 WHERE id <= 20; DELETE FROM columns WHERE id > 30; UPDATE columns SET region = 'us' WHERE id < 9",
  );
  await pipeline.sql("ALTER TABLE keyed DROP CONSTRAINT keyed_pkey; ALTER TABLE keyed ADD PRIMARY KEY (code)");
  await pipeline.sql("UPDATE keyed SET v = 1 WHERE id <= 20; DELETE FROM keyed WHERE id > 30");
  await pipeline.sql("ALTER TABLE typed ALTER id TYPE text");
  await pipeline.sql("UPDATE typed SET v = 1");
  await pipeline.sql("ALTER TABLE upper ALTER region TYPE varchar(20) USING upper(region)");
  await pipeline.sql("UPDATE upper SET v = 1 WHERE id < 30");
  // Of the same type: nobody is told that other rows are whose. What goes before it is copied again is known to be gone by its delete alone.
  await pipeline.sql("ALTER TABLE again ALTER region TYPE text USING upper(region)");
  await pipeline.sql("DELETE FROM again WHERE id < 15; UPDATE again SET v = 1 WHERE id < 25");
  await untilWhole(pipeline, "public.*", "public.none");

  // The column is gone: no row of the table is anybody's, until it is divided by another one.
  await pipeline.sql("ALTER TABLE upper DROP COLUMN region; INSERT INTO upper VALUES (50, 1)");
  for (const router of [first, second]) expect(await held(router, "public.upper")).toMatchObject({ code: "SHARD_KEY" });
  for (const router of [first, second]) await router.stop();
  await startShards(pipeline, TWO, { ROUTER_SHARD_KEYS: keys.replace("public.upper=region", "public.upper=id") });
  await untilWhole(pipeline, "public.*", "public.none");
});

test("lists, ranges and tables on every shard; a copy takes away what is not a shard's", async () => {
  await using pipeline = await openPipeline({
    name: "shards_listed",
    engines: TWO,
    schema: (client) =>
      client.query(`CREATE TABLE listed (id int PRIMARY KEY, region text); ALTER TABLE listed REPLICA IDENTITY FULL;
        CREATE TABLE days (id int PRIMARY KEY, at timestamptz); ALTER TABLE days REPLICA IDENTITY FULL;
        CREATE TABLE numbers (id numeric PRIMARY KEY, n int);
        CREATE TABLE everywhere (id int PRIMARY KEY, name text);
        INSERT INTO listed SELECT n, (ARRAY['eu', 'uk', 'us', ''])[n % 4 + 1] FROM generate_series(1, 60) AS n;
        INSERT INTO days SELECT n, '2026-01-31 12:00:00+00'::timestamptz + n * interval '1 hour' FROM generate_series(1, 60) AS n;
        INSERT INTO numbers SELECT n / 2.0, n FROM generate_series(1, 60) AS n;
        INSERT INTO everywhere SELECT n, 'x' FROM generate_series(1, 20) AS n`),
  });
  const cdc = await pipeline.cdc();
  const keys = (list: string, days: string, numbers: string) =>
    `public.everywhere=*,public.listed=region:${list},public.days=at:${days},public.numbers=id:${numbers}`;
  // No ROUTER_SHARD: what is whose is said by values alone.
  await pipeline.router("postgres", { env: { ROUTER_SHARD_KEYS: keys('eu|""', "..2026-01-31", "..9.5") } });
  await pipeline.router("sqlite", { env: { ROUTER_SHARD_KEYS: keys("uk|us", "2026-02-01..", "10..") } });
  const divided = "public.*,!public.everywhere";
  await untilWhole(pipeline, divided, "public.everywhere");
  await pipeline.sql("UPDATE listed SET region = 'us' WHERE region = 'eu'; UPDATE listed SET region = 'eu' WHERE id % 3 = 0");
  await pipeline.sql("UPDATE days SET at = at + interval '20 hours' WHERE id % 3 = 0");
  await pipeline.sql("UPDATE numbers SET id = id + 40 WHERE id < 3; UPDATE everywhere SET name = 'y' WHERE id > 5");
  await untilWhole(pipeline, divided, "public.everywhere");
  const count = async (table: string, where: string) =>
    Number(
      (await pipeline.replicaServer.query("shards_listed", `SELECT count(*)::int AS n FROM ${table} WHERE ${where}`))[0]?.["n"],
    );
  expect(await count("listed", "region IN ('eu', '')")).toBeGreaterThan(20);
  expect(await count("listed", "region NOT IN ('eu', '')")).toBe(0);
  expect(await count("days", "at < '2026-02-01 00:00:00+00'")).toBeGreaterThan(5);
  expect(await count("days", "at >= '2026-02-01 00:00:00+00'")).toBe(0);
  expect(await count("numbers", "id <= 9.5")).toBeGreaterThan(10);

  // Somebody puts rows there that are another's.
  await pipeline.replicaServer.query("shards_listed", "INSERT INTO listed SELECT id + 1000, 'us' FROM listed");
  await pipeline.sql("INSERT INTO listed SELECT n, 'us' FROM generate_series(1001, 1060) AS n");
  expect(await count("listed", "region = 'us'")).toBeGreaterThan(10);
  await cdc.ready();
  expect((await snapshot(pipeline, "public.listed")).code).toBe(0);
  await untilWhole(pipeline, divided, "public.everywhere");
});

test("held changes of a shard are replayed by its rules alone", async () => {
  await using pipeline = await openPipeline({
    name: "shards_letters",
    engines: TWO,
    schema: (client) =>
      client.query(`CREATE TABLE t (id int PRIMARY KEY, region text, v int); ALTER TABLE t REPLICA IDENTITY FULL;
        INSERT INTO t SELECT n, '${FIRST}', 0 FROM generate_series(1, 5) AS n`),
  });
  await pipeline.cdc();
  const env = { ROUTER_SHARD_KEYS: "public.t=region" };
  const [first] = await startShards(pipeline, TWO, { ...env, ROUTER_ON_ERROR: "dead-letter" });
  await untilWhole(pipeline, "public.*", "public.none");
  const onFirst = (sql: string) => pipeline.replicaServer.query("shards_letters", sql);
  await onFirst("ALTER TABLE t ADD CONSTRAINT sane CHECK (v <> 666)");
  await pipeline.sql("UPDATE t SET v = 666 WHERE id <= 2");
  const heldKeys = async () => (await first?.status())?.tables.find(({ table }) => table === "public.t")?.heldKeys;
  expect(await until(async () => (await heldKeys()) === 2, 30_000)).toBe(true);
  // It goes to the other shard, while what came before is held here.
  await pipeline.sql("UPDATE t SET v = 1, region = $1 WHERE id = 1", [SECOND]);
  await pipeline.sql("UPDATE t SET v = 1 WHERE id = 2");
  await pipeline.sql("INSERT INTO t VALUES (9, $1, 0)", [FIRST]);
  expect(await until(async () => (await onFirst("SELECT 1 FROM t WHERE id = 9")).length === 1, 30_000)).toBe(true);
  await onFirst("ALTER TABLE t DROP CONSTRAINT sane");
  const replay = (shard: Readonly<Record<string, string>>) =>
    command(pipeline, "shard-router/src/dead-letters-command.ts", ["replay", "--all"], {
      ...{ REPLICA_URL: pipeline.replicas[0]?.url ?? "", REPLICA_NAME: "postgres", ...shard },
    });
  const refused = await replay({});
  expect(refused).toMatchObject({ code: 78, said: expect.stringContaining('holds the part "0/2 public.t=region"') });
  expect(await heldKeys()).toBe(2);
  expect(await replay({ ROUTER_SHARD: "0/2", ...env })).toMatchObject({
    code: 0,
    said: expect.stringContaining("2 keys released"),
  });
  await untilWhole(pipeline, "public.*", "public.none");
});

/** As a person runs it. */
async function command(
  pipeline: Pipeline,
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ readonly code: number | null; readonly said: string }> {
  const child = spawnChild([process.execPath, join(repository, file), ...args], {
    cwd: repository,
    env: { ...process.env, KAFKA_BROKERS: pipeline.kafka.brokers, KAFKA_TOPIC_PREFIX: pipeline.name, ...env },
  });
  const { code } = await child.exited;
  return { code, said: child.log() };
}

const snapshot = (pipeline: Pipeline, tables: string, ...more: readonly string[]) =>
  command(pipeline, "cdc/src/snapshot-command.ts", ["--tables", tables, "--wait", ...more], {
    ...{ CDC_DATABASE_URL: pipeline.mainUrl, CDC_SLOT: pipeline.name },
  });

test("a replica holds one part for ever: another is refused with the cure; a rule for a new table is learnt", async () => {
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
  expect(await until(async () => (await applied(router)) === Number(expected), 30_000)).toBe(true);
  expect(Number(expected)).toBeWithin(30, 70);
  for (const env of [{ ROUTER_SHARD: "0/2" }, {}, { ROUTER_SHARD: "1/2", ROUTER_SHARD_KEYS: "public.t=*" }]) {
    const [finding] = await refusal(await pipeline.router("sqlite", { env }));
    expect(finding?.code).toBe("SHARD_CHANGED");
    expect(finding?.msg).toContain('holds the part "1/2"');
    expect(finding?.msg).toContain("other rows of public.t would be its own");
  }
  const withNew = () => pipeline.router("sqlite", { env: { ROUTER_SHARD: "1/2", ROUTER_SHARD_KEYS: "public.new=*" } });
  const more = await withNew();
  await more.ready();
  await more.stop();
  // The one that knows the old rules goes on, up to the table of which they say something else.
  await pipeline.sql("INSERT INTO t SELECT generate_series(101, 120)");
  expect(await until(async () => (await applied(router)) > Number(expected), 30_000)).toBe(true);
  await pipeline.sql("CREATE TABLE new (id int PRIMARY KEY)");
  await pipeline.sql("INSERT INTO new SELECT generate_series(1, 10)");
  const [told] = await refusal(router);
  expect(told).toMatchObject({ code: "SHARD_CHANGED", msg: expect.stringContaining("other rows of public.new would") });
  const again = await withNew();
  const url = pipeline.replicas[0]?.url ?? "";
  const isThere = async () => (await compareReplica(pipeline.mainUrl, url, "public.new")).every((table) => isEqual(table));
  expect(await until(() => isThere().catch(() => false), 30_000)).toBe(true);
  await again.stop();
  // What was learnt is kept: by the rules of the beginning the table would be divided.
  const [finding] = await refusal(await pipeline.router("sqlite", { env: { ROUTER_SHARD: "1/2" } }));
  expect(finding).toMatchObject({ code: "SHARD_CHANGED", msg: expect.stringContaining("other rows of public.new would") });
});

test("a shard reads the partitions alone that its rows are in, and its routers share those", async () => {
  const seed = seedFromEnvironment();
  await using pipeline = await openPipeline({
    name: "own_parts",
    engines: ["postgres", "sqlite"],
    schema: async (client) => {
      await client.query(MOVING_SCHEMA);
      // A row that moves to another shard comes there whole.
      await client.query("ALTER TABLE heavy REPLICA IDENTITY FULL");
    },
  });
  await (await pipeline.cdc({ env: { KAFKA_PARTITIONS: "4" } })).ready();
  const env = (index: number) => ({ ROUTER_SHARD: `${index}/2`, ROUTER_SHARD_KEYS: "public.told=region,public.entries=region" });
  const routers = [
    await pipeline.router("postgres", { env: env(0) }),
    await pipeline.router("postgres", { env: env(0) }),
    await pipeline.router("sqlite", { env: env(1) }),
  ];
  const moving = startMovingRows(pipeline.mainUrl, randomOf(seed));
  await Bun.sleep(4_000);
  await routers[1]?.kill();
  await pipeline.sql(
    "ALTER TABLE heavy ADD COLUMN extra int DEFAULT 7; ALTER TABLE amounts RENAME TO sums; ALTER TABLE sums RENAME TO amounts",
  );
  routers[1] = await pipeline.router("postgres", { env: env(0) });
  await Bun.sleep(2_000);
  expect(await moving.stop()).toBeGreaterThan(50);
  const whole = async () =>
    (
      await compareShards(
        pipeline.mainUrl,
        pipeline.replicas.map(({ url }) => url),
        "public.*",
      )
    ).every(isEqual);
  if (!(await until(() => whole().catch(() => false), 60_000, 500)))
    throw new Error(`the shards are not main-db\n${pipeline.logs()}`);
  const read = await Promise.all(routers.map(async (router) => (await router.status()).partitions));
  const of = (at: number, table: string) =>
    (read[at] ?? []).flatMap(({ topic, partition }) => (topic.endsWith(`.${table}`) ? [partition] : []));
  for (const table of ["heavy", "pairs", "amounts"]) {
    expect([...of(0, table), ...of(1, table)].toSorted()).toEqual([0, 2]);
    expect(of(2, table).toSorted()).toEqual([1, 3]);
  }
  // Divided by another column than its key, rows of every shard are in every partition.
  expect(of(2, "told").toSorted()).toEqual([0, 1, 2, 3]);
  for (const partitions of read.slice(0, 2)) expect(partitions.length).toBeGreaterThan(3);
});
