import { Database } from "bun:sqlite";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Child, spawnChild } from "@cascade/local/child.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { repository } from "@cascade/local/paths.ts";
import { testMariadb, testReplicaPostgres } from "@cascade/local/servers.ts";
import type { RouterStatus } from "@cascade/local/service-status.ts";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import type { Client } from "pg";
import { type Engine, openPipeline, type Pipeline, untilItApplies } from "./pipeline.ts";
import { reconnecting } from "./reconnecting.ts";
import { expectNoSecret, refusal } from "./refusals.ts";
import { untilWhole as untilShardsAreWhole } from "./until-whole.ts";

/** From n to m shards while main-db is written to: in the end the shards together are main-db, and no row is there twice. */

setDefaultTimeout(240_000);

const ITEMS = 3_000;
const PAUSE_MS = 5;
const KEYS = [
  ...["public.countries=*", "public.orders=customer_id", "public.moving=region", "public.pairs=a+b", "public.log=actor"],
].join(",");

async function schema(client: Client): Promise<void> {
  await client.query(`
    CREATE TABLE countries (code text PRIMARY KEY, name text);
    CREATE TABLE items (id bigint PRIMARY KEY, note text);
    CREATE TABLE orders (id int PRIMARY KEY, customer_id numeric(12,2), note text); ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE TABLE moving (id int PRIMARY KEY, region text, n int); ALTER TABLE moving REPLICA IDENTITY FULL;
    CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (a, b));
    CREATE TABLE log (actor int, said text); ALTER TABLE log REPLICA IDENTITY FULL;
    INSERT INTO countries VALUES ('de', 'r0w-value'), ('fr', 'r0w-value');
    INSERT INTO items SELECT n, 'r0w-value' FROM generate_series(1, ${ITEMS}) AS n;
    INSERT INTO orders SELECT n, n % 50, 'r0w-value' FROM generate_series(1, 500) AS n;
    INSERT INTO moving SELECT n, (ARRAY['eu', 'uk', 'us', NULL])[1 + n % 4], 0 FROM generate_series(1, 400) AS n;
    INSERT INTO pairs SELECT n, 'b' || n % 7, 0 FROM generate_series(1, 400) AS n;
    INSERT INTO log SELECT n % 40, 'r0w-value' FROM generate_series(1, 400) AS n`);
}

/** Inserts, updates, changes of keys and of what rows are divided by, deletes; until `stop`. */
function startWriter(url: string, seed: number) {
  const random = randomOf(seed);
  const stopping = new AbortController();
  let changes = 0;
  const running = reconnecting(url, stopping.signal, async (client) => {
    for (; !stopping.signal.aborted; changes++) {
      await Bun.sleep(PAUSE_MS); // what a slow machine is to catch up with is not to depend on how fast it writes
      const id = random.between(1, ITEMS + 200);
      const region = random.pick(["eu", "uk", "us", "jp", "br", null]);
      const put = "INSERT INTO items VALUES ($1, 'new') ON CONFLICT (id) DO UPDATE SET note = 'again ' || $1";
      if (random.chance(0.2)) await client.query("DELETE FROM items WHERE id = $1", [id]);
      else if (random.chance(0.1))
        await client.query(
          "UPDATE items SET id = id + 100000 WHERE id = $1 AND NOT EXISTS (SELECT FROM items WHERE id = $1 + 100000)",
          [id],
        );
      else await client.query(put, [id]);
      await client.query(
        "INSERT INTO moving VALUES ($1, $2, 1) ON CONFLICT (id) DO UPDATE SET region = excluded.region, n = moving.n + 1",
        [id % 500, region],
      );
      await client.query("UPDATE orders SET customer_id = $2 WHERE id = $1", [id % 500, random.between(0, 4_000) / 100]);
      if (random.chance(0.3)) {
        const free = "NOT EXISTS (SELECT FROM pairs p WHERE p.a = $1 AND p.b = $2)";
        await client.query(`UPDATE pairs SET b = $2 WHERE (a, b) = (SELECT a, b FROM pairs WHERE a = $1 LIMIT 1) AND ${free}`, [
          id % 400,
          `b${id % 9}`,
        ]);
      }
      if (random.chance(0.05)) await client.query("UPDATE log SET actor = $2 WHERE actor = $1", [id % 40, (id + 3) % 40]);
      if (random.chance(0.2)) await client.query("INSERT INTO log VALUES ($1, 'more')", [id % 40]);
      if (random.chance(0.05)) await client.query("UPDATE countries SET name = $1", [`name ${id}`]);
    }
  });
  return {
    made: () => changes,
    stop: async () => {
      stopping.abort();
      await running;
      return changes;
    },
  };
}

/** Databases of an engine, as many as are asked for. */
class Shards implements AsyncDisposable {
  readonly #engine: Engine;
  readonly #prefix: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "rs9-reshard-"));
  readonly #drops: (() => Promise<unknown>)[] = [];

  constructor(engine: Engine, prefix: string) {
    this.#engine = engine;
    this.#prefix = prefix;
  }

  async make(name: string): Promise<string> {
    if (this.#engine === "sqlite" || this.#engine === "duckdb") return `${this.#engine}://${join(this.#folder, `${name}.db`)}`;
    const server = this.#engine === "postgres" ? await testReplicaPostgres() : await testMariadb();
    if (server === null) throw new Error("MariaDB is not installed");
    const database = `${this.#prefix}_${name}`;
    this.#drops.push(() => server.dropDatabase(database));
    return server.createDatabase(database);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const drop of this.#drops) await drop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

interface Shard {
  readonly name: string;
  readonly url: string;
}

const startRouter = (pipeline: Pipeline, { name, url }: Shard, shard: string, keys = KEYS): Promise<Service<RouterStatus>> =>
  pipeline.router("postgres", { replicaUrl: url, replicaName: name, env: { ROUTER_SHARD: shard, ROUTER_SHARD_KEYS: keys } });

const environmentOf = ({ kafka, name: prefix }: Pipeline, { name, url }: Shard) => ({
  ...{ KAFKA_BROKERS: kafka.brokers, KAFKA_TOPIC_PREFIX: prefix, REPLICA_URL: url, REPLICA_NAME: name },
});

/** The command as people run it, in the environment of the shard's routers. */
function startCommand(
  pipeline: Pipeline,
  shard: Shard,
  args: readonly string[],
  onLine?: (line: string) => void,
  more: Readonly<Record<string, string>> = {},
): Child {
  return spawnChild([process.execPath, join(repository, "shard-router/src/reshard-command.ts"), ...args], {
    cwd: repository,
    env: {
      ...process.env,
      ...environmentOf(pipeline, shard),
      ROUTER_BATCH_ROWS: "40",
      ...more,
    },
    ...(onLine === undefined ? {} : { onLine }),
  });
}

const command = (pipeline: Pipeline, shard: Shard, ...args: readonly string[]) => commandIn({}, pipeline, shard, ...args);

async function commandIn(
  env: Readonly<Record<string, string>>,
  pipeline: Pipeline,
  shard: Shard,
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly said: string }> {
  const child = startCommand(pipeline, shard, args, undefined, env);
  const { code } = await child.exited;
  expectNoSecret(child.log());
  return { code, said: child.log() };
}

const untilWhole = (pipeline: Pipeline, shards: readonly Shard[]): Promise<void> =>
  untilShardsAreWhole(pipeline, {
    urls: shards.map(({ url }) => url),
    divided: "public.*,!public.countries",
    everywhere: "public.countries",
  });

const ENGINES: readonly Engine[] = findMariadb() === null ? ["postgres", "sqlite"] : ["postgres", "mariadb", "sqlite"];

describe.each(ENGINES)("%s", (engine) => {
  test("two shards become four under writes, the command killed in its drop, routers of both rules running", async () => {
    const seed = seedFromEnvironment();
    const name = `reshard_${engine}`;
    await using shards = new Shards(engine, name);
    await using pipeline = await openPipeline({ name, engines: [], schema });
    const [a, b, c, d] = await Promise.all(
      ["a", "b", "c", "d"].map(async (at): Promise<Shard> => ({ name: at, url: await shards.make(at) })),
    );
    if (a === undefined || b === undefined || c === undefined || d === undefined) throw new Error("four shards are made");
    const cdc = await pipeline.cdc();
    await cdc.ready();
    const [oldA, oldB] = [await startRouter(pipeline, a, "0/2"), await startRouter(pipeline, b, "1/2")];
    await untilWhole(pipeline, [a, b]);
    const writer = startWriter(pipeline.mainUrl, seed);

    // Before the command a router of the new rules is told of it.
    const [early] = await refusal(await startRouter(pipeline, a, "0/4"));
    expect(early?.code).toBe("SHARD_CHANGED");
    expect(early?.advice).toContain("reshard");

    await startRouter(pipeline, c, "2/4");
    const besideC = ["--shard", "0/4", "--beside", c.url];
    let isKilled = false;
    const kill = (line: string): void => {
      if (isKilled || !line.endsWith("given up")) return;
      isKilled = true;
      killed.signal("SIGKILL");
    };
    // Few rows a transaction: it must not be done before its first line is read here.
    const killed = startCommand(pipeline, a, besideC, kill, { ROUTER_BATCH_ROWS: "2" });
    expect(await killed.exited).toEqual({ code: null, signal: "SIGKILL" });
    expect(killed.log()).toContain("position: ");
    expect(killed.log()).toContain(`holds the part "0/4 ${KEYS}" from now on`);
    // The router by the rules from before has written nothing by them since, and ends.
    expect((await refusal(oldA))[0]?.code).toBe("SHARD_CHANGED");
    const newA = await startRouter(pipeline, a, "0/4");
    await newA.ready();
    const other = await command(pipeline, a, "--shard", "0/8", "--beside", c.url);
    expect(other.said).toContain("rows may be left");
    expect(other.code).toBe(78);
    const again = await command(pipeline, a, ...besideC);
    expect(again.said).toContain("going on: ");
    expect(again.code).toBe(0);
    expect(again.said).toMatch(/done: [1-9]\d* rows given up/);
    const third = await command(pipeline, a, ...besideC);
    expect(third.said).toContain("nothing to do");
    expect(third.code).toBe(0);

    await startRouter(pipeline, d, "3/4");
    const { code, said } = await command(pipeline, b, "--shard", "1/4", "--keys", KEYS, "--beside", d.url);
    expect(said).toMatch(/items: [1-9]\d{2,} rows given up/);
    expect(code).toBe(0);
    expect((await refusal(oldB))[0]?.code).toBe("SHARD_CHANGED");
    await startRouter(pipeline, b, "1/4");

    const made = writer.made();
    expect(await until(() => writer.made() > made + 100, 30_000)).toBe(true);
    process.stderr.write(`reshard, CASCADE_SEED=${seed}: ${await writer.stop()} changes\n`);
    await untilWhole(pipeline, [a, b, c, d]);
  });
});

test.each(["postgres", "duckdb"] as const)("a replica of everything, on %s, gives half of it up", async (engine) => {
  const name = `reshard_whole_${engine}`;
  await using shards = new Shards(engine, name);
  await using others = new Shards("sqlite", name);
  await using pipeline = await openPipeline({ name, engines: [], schema });
  const [a, b] = [
    { name: "a", url: await shards.make("a") },
    { name: "b", url: await others.make("b") },
  ];
  await pipeline.cdc();
  const whole = await pipeline.router("postgres", { replicaUrl: a.url, replicaName: a.name });
  await untilItApplies(whole);
  const writer = startWriter(pipeline.mainUrl, seedFromEnvironment());
  const half = await startRouter(pipeline, b, "1/2");
  await untilItApplies(half);
  const args = ["--shard", "0/2", "--keys", KEYS, "--beside", b.url];
  if (engine === "duckdb") {
    // One process at a time has its file.
    const locked = await command(pipeline, a, ...args);
    expect(locked.said).toContain("one process at a time");
    expect(locked.code).toBe(1);
    await whole.stop();
  }
  const { said, code } = await command(pipeline, a, ...args);
  expect(said).toMatch(/done: [1-9]\d{2,} rows given up/);
  expect(code).toBe(0);
  if (engine !== "duckdb") expect((await refusal(whole))[0]?.code).toBe("SHARD_CHANGED");
  await startRouter(pipeline, a, "0/2");
  const made = writer.made();
  expect(await until(() => writer.made() > made + 100, 30_000)).toBe(true);
  await writer.stop();
  await untilWhole(pipeline, [a, b]);
});

test("two shards become three by new replicas for all, and the command says so", async () => {
  const name = "reshard_anew";
  await using shards = new Shards("sqlite", name);
  await using pipeline = await openPipeline({ name, engines: [], schema });
  const shard = async (at: string): Promise<Shard> => ({ name: at, url: await shards.make(at) });
  const old = [await shard("a"), await shard("b")];
  await pipeline.cdc();
  const routers = await Promise.all(old.map((one, at) => startRouter(pipeline, one, `${at}/2`)));
  await untilWhole(pipeline, old);
  const writer = startWriter(pipeline.mainUrl, seedFromEnvironment());
  const anew = [await shard("x"), await shard("y"), await shard("z")];
  const refused = await command(pipeline, old[0] as Shard, "--shard", "0/3", "--beside", (anew[1] as Shard).url);
  expect(refused.said).toContain("fill new replicas for all of the new parts");
  expect(refused.code).toBe(78);
  await Promise.all(anew.map((one, at) => startRouter(pipeline, one, `${at}/3`)));
  const made = writer.made();
  expect(await until(() => writer.made() > made + 100, 30_000)).toBe(true);
  for (const router of routers) await router.stop();
  await writer.stop();
  await untilWhole(pipeline, anew);
});

test("nothing is changed where parts do not fit together, or somebody is not as far; keys that are held go with their rows", async () => {
  const name = "reshard_refused";
  await using shards = new Shards("sqlite", name);
  await using pipeline = await openPipeline({
    name,
    engines: [],
    schema: (client) =>
      client.query(`CREATE TABLE countries (code text PRIMARY KEY); CREATE TABLE items (id int PRIMARY KEY, note text);
        INSERT INTO countries VALUES ('de'); INSERT INTO items SELECT n, 'fine' FROM generate_series(1, 400) AS n`),
  });
  const keys = "public.countries=*";
  const [a, b, c] = await Promise.all(
    ["a", "b", "c"].map(async (at): Promise<Shard> => ({ name: at, url: await shards.make(at) })),
  );
  if (a === undefined || b === undefined || c === undefined) throw new Error("three shards are made");
  await pipeline.cdc();
  const letters = (shard: Shard, part: string): Promise<Service<RouterStatus>> =>
    pipeline.router("sqlite", {
      ...{ replicaUrl: shard.url, replicaName: shard.name },
      env: { ROUTER_SHARD: part, ROUTER_SHARD_KEYS: keys, ROUTER_ON_ERROR: "dead-letter" },
    });
  const oldA = await letters(a, "0/2");
  await letters(b, "1/2");
  await untilWhole(pipeline, [a, b]);

  const says = async (code: number, text: string, ...args: readonly string[]): Promise<void> => {
    const found = await command(pipeline, a, ...args);
    expect(found.said).toContain(text);
    expect(found.code).toBe(code);
  };
  await says(78, "Say --shard", "--beside", c.url);
  await says(78, "there is no shard", "--shard", "4/4", "--beside", c.url);
  await says(78, "is --beside missing before a URL?", "--shard", "0/4", c.url);
  await says(78, "--beside-file /nowhere", "--shard", "0/4", "--beside-file", "/nowhere");
  // Rules that fit no table, and an environment that is not its routers'.
  await says(78, "(--keys, or those that it has)", "--shard", "0/4", "--keys", "public.items=nothing", "--beside", c.url);
  for (const wrong of [{ KAFKA_TOPIC_PREFIX: "elsewhere" }, { ROUTER_TABLES: "public.countries" }] as const) {
    const found = await commandIn(wrong, pipeline, a, "--shard", "0/4", "--beside", c.url);
    expect([found.code, found.said]).toEqual([78, expect.stringContaining("give the command its routers' environment")]);
  }
  await says(78, "the 2.", "--shard", "0/4", "--beside", c.url, "--beside", "nonsense");
  await says(0, "Divides a shard further", "--help");
  await says(78, "rows that are not in", "--shard", "1/4", "--beside", c.url);
  await says(78, "tables that no rule names", "--shard", "0/4");
  await says(78, "or is this replica itself", "--shard", "0/4", "--beside", a.url);
  // Of b no row was a's.
  await says(78, "some of its rows would be on none of them", "--shard", "0/4", "--beside", b.url);
  await says(1, "c has no part yet", "--shard", "0/4", "--beside", c.url, "--timeout", "1");
  const stopped = await letters(c, "2/4");
  await untilItApplies(stopped);
  await stopped.stop();
  await pipeline.sql("INSERT INTO items SELECT n, 'fine' FROM generate_series(401, 500) AS n");
  await untilWhole(pipeline, [a, b]);
  await says(
    1,
    "events to go up to the position, in reshard_refused.public.items",
    "--shard",
    "0/4",
    "--beside",
    c.url,
    "--timeout",
    "1",
  );

  // One of a's keys is its own after the command, another is not.
  const file = new Database(a.url.replace("sqlite://", ""));
  file.run("PRAGMA busy_timeout = 10000");
  file.run("CREATE TRIGGER refuses BEFORE UPDATE ON items WHEN new.note = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END");
  const owner = "('x' || left(md5(id::text), 8))::bit(32)::bigint % 4";
  await pipeline.sql(`UPDATE items SET note = 'refused' WHERE id IN
    (SELECT min(id) FROM items WHERE ${owner} = 0 UNION ALL SELECT min(id) FROM items WHERE ${owner} = 2)`);
  const held = (): number => Number(file.query<{ n: number }, []>("SELECT count(*) AS n FROM cascade_held_keys").get()?.n);
  expect(await until(() => held() === 2, 30_000)).toBe(true);
  const again = await letters(c, "2/4");
  const urlFile = `${c.url.replace("sqlite://", "")}.url`;
  writeFileSync(urlFile, `${c.url}\n`);
  // Somebody has put a row there that is b's.
  const [{ id } = { id: 0 }] = await pipeline.sql(
    `SELECT id FROM generate_series(600, 700) AS id WHERE ${owner} % 2 = 1 LIMIT 1`,
  );
  file.run("INSERT INTO items VALUES (?, 'r0w-value')", [Number(id)]);
  await says(1, "public.items has rows that were not this replica's before either", "--shard", "0/4", "--beside", c.url);
  file.run("DELETE FROM items WHERE id = ?", [Number(id)]);
  const done = await command(pipeline, a, "--shard", "0/4", "--beside-file", urlFile);
  expect(done.said).toContain("going on: ");
  expect(done.said).toContain("2 keys are held back here still");
  expect(done.code).toBe(0);
  await again.ready();
  // The rows that are left are a's, and the command ends so too when nothing is written to main-db.
  const [{ n } = { n: 0 }] = await pipeline.sql(`SELECT count(*)::int AS n FROM items WHERE ${owner} = 0`);
  expect(file.query<{ n: number }, []>("SELECT count(*) AS n FROM items").get()?.n).toBe(Number(n));
  file.run("DROP TRIGGER refuses");
  await oldA.kill();
  await letters(a, "0/4");
  const env = { ROUTER_SHARD: "0/4", ROUTER_SHARD_KEYS: keys };
  const replayed = spawnChild([process.execPath, join(repository, "shard-router/src/dead-letters-command.ts"), "replay"], {
    cwd: repository,
    env: { ...process.env, ...env, ...environmentOf(pipeline, a) },
  });
  expect((await replayed.exited).code).toBe(0);
  expect(replayed.log()).toContain("2 keys released, 0 keys held back still");
  file.close();
  await untilWhole(pipeline, [a, b, c]);
});
