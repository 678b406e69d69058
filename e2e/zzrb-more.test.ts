import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { testMariadb } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { openPipeline } from "./pipeline.ts";
import { repeat } from "./reconnecting.ts";
import { RESHARD, reshard, router, run, type Shard, Shards, show, untilWhole } from "./zzrb-lab.ts";

setDefaultTimeout(240_000);
const REGIONS = "(ARRAY['eu','uk','us','jp','br','in'])";

test("rename: the column that divides a table is renamed while the drop is not done", async () => {
  const name = "rb9_rename";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE told (id int PRIMARY KEY, region text, n int); ALTER TABLE told REPLICA IDENTITY FULL;
      CREATE TABLE typed (id int PRIMARY KEY, n int); ALTER TABLE typed REPLICA IDENTITY FULL;
      CREATE TABLE keyed (id int PRIMARY KEY, other int NOT NULL);
      INSERT INTO told SELECT n, ${REGIONS}[1 + n % 6], 0 FROM generate_series(1, 600) n;
      INSERT INTO typed SELECT n, n % 17 FROM generate_series(1, 600) n;
      INSERT INTO keyed SELECT n, 5000 - n FROM generate_series(1, 600) n`),
  });
  const KEYS = "public.told=region,public.typed=n";
  const KEYS2 = "public.told=area,public.typed=n";
  const [a, b, c] = [await shards.make("a", "postgres"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  const olds = [await router(pipeline, a, "0/2", KEYS), await router(pipeline, b, "1/2", KEYS), await router(pipeline, c, "2/4", KEYS)];
  await untilWhole(pipeline, [a, b]);
  let killed = false;
  const child = run(pipeline, a, RESHARD, ["--shard", "0/4", "--beside", c.url], { ROUTER_BATCH_ROWS: "1" }, (line) => {
    if (killed || !line.includes("from now on")) return;
    killed = true;
    child.signal("SIGKILL");
  });
  await child.exited;
  const next = await router(pipeline, a, "0/4", KEYS);
  await pipeline.sql(`ALTER TABLE told RENAME region TO area; UPDATE told SET n = 1 WHERE id % 2 = 0;
    ALTER TABLE typed ALTER n TYPE text USING 'v' || n; UPDATE typed SET n = n || 'x' WHERE id % 5 = 0;
    ALTER TABLE keyed DROP CONSTRAINT keyed_pkey; ALTER TABLE keyed ADD PRIMARY KEY (other); UPDATE keyed SET other = other + 10000 WHERE id % 3 = 0`);
  await Bun.sleep(3_000);
  show(`errors on a: ${JSON.stringify((await next.status()).tables)}`);
  const same = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url], { ROUTER_BATCH_ROWS: "50" });
  show(`same: ${same.code} ${same.said}`);
  await next.stop();
  for (const one of olds) await one.stop();
  await router(pipeline, a, "0/4", KEYS2);
  await router(pipeline, b, "1/2", KEYS2);
  await router(pipeline, c, "2/4", KEYS2);
  await Bun.sleep(2_000);
  const again = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url]);
  show(`again: ${again.code} ${again.said}`);
  if (again.code !== 0) {
    const keys = await reshard(pipeline, a, ["--shard", "0/4", "--keys", KEYS2, "--beside", c.url]);
    show(`with --keys: ${keys.code} ${keys.said}`);
  }
  await untilWhole(pipeline, [a, b, c]);
});

test("letters: refused rows move while a part is given up, then are replayed", async () => {
  const name = "rb9_letters";
  const random = randomOf(seedFromEnvironment());
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE told (id int PRIMARY KEY, region text, note text); ALTER TABLE told REPLICA IDENTITY FULL;
      INSERT INTO told SELECT n, ${REGIONS}[1 + n % 6], 'fine' FROM generate_series(1, 300) n`),
  });
  const KEYS = "public.told=region";
  const env = { ROUTER_ON_ERROR: "dead-letter" };
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  await router(pipeline, a, "0/2", KEYS, env);
  await router(pipeline, b, "1/2", KEYS, env);
  await untilWhole(pipeline, [a, b]);
  const file = new Database(a.url.replace("sqlite://", ""));
  file.run("PRAGMA busy_timeout = 10000");
  for (const on of ["UPDATE", "INSERT"]) file.run(`CREATE TRIGGER refuses_${on} BEFORE ${on} ON told WHEN new.note = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END`);
  const writer = repeat(pipeline.mainUrl, (client) => async () => {
    const id = random.between(1, 320);
    const region = random.pick(["eu", "uk", "us", "jp", "br", "in"]);
    const note = random.chance(0.1) ? "refused" : `n${id}`;
    await client.query("INSERT INTO told VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET region = excluded.region, note = excluded.note", [id, region, note]);
    if (random.chance(0.2)) await client.query("DELETE FROM told WHERE id = $1", [random.between(1, 320)]);
    if (random.chance(0.2)) await client.query("UPDATE told SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM told t WHERE t.id = $2)", [id, random.between(1, 320)]);
    if (random.chance(0.3)) await client.query("UPDATE told SET region = $2 WHERE id = $1", [random.between(1, 320), random.pick(["eu", "uk", "us", "jp", "br", "in"])]);
    return true;
  });
  await Bun.sleep(2_000);
  await router(pipeline, c, "2/4", KEYS, env);
  let killed = false;
  const child = run(pipeline, a, RESHARD, ["--shard", "0/4", "--beside", c.url], { ROUTER_BATCH_ROWS: "1" }, (line) => {
    if (killed || !line.includes("from now on")) return;
    killed = true;
    child.signal("SIGKILL");
  });
  await child.exited;
  const now = await router(pipeline, a, "0/4", KEYS, env);
  await Bun.sleep(2_000);
  const again = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url], { ROUTER_BATCH_ROWS: "3" });
  show(`${again.code} ${again.said}`);
  await Bun.sleep(1_000);
  show(`${await writer.stop()} writes`);
  await until(async () => (await now.status()).lagEvents === 0, 20_000);
  const held = () => new Database(a.url.replace("sqlite://", ""), { readonly: true }).query<{ n: number }, []>("SELECT count(*) n FROM cascade_held_keys").get()?.n;
  show(`held ${held()}`);
  for (const on of ["UPDATE", "INSERT"]) file.run(`DROP TRIGGER refuses_${on}`);
  file.close();
  const replayed = run(pipeline, a, "shard-router/src/dead-letters-command.ts", ["replay"], { ROUTER_SHARD: "0/4", ROUTER_SHARD_KEYS: KEYS });
  show("replaying");
  for (let n = 0; n < 5 && (await Promise.race([replayed.exited, Bun.sleep(5_000)])) === undefined; n++) show(`held ${held()}`);
  const probe = new Database(a.url.replace("sqlite://", ""), { readonly: true });
  show(JSON.stringify(probe.query("SELECT * FROM cascade_held_keys LIMIT 4").all()).slice(0, 2500));
  if (await Promise.race([replayed.exited, Bun.sleep(1)]) === undefined) {
    show(`replay hangs: ${replayed.log().split("\n").slice(-6).join(" / ")}; held ${held()}; router: ${JSON.stringify(await now.status()).slice(0, 1500)}`);
    replayed.signal("SIGKILL");
  }
  show(`${(await replayed.exited).code} ${replayed.log().split("\n").slice(-3).join(" / ")}`);
  await untilWhole(pipeline, [a, b, c]);
});

test("plain letters, no reshard: refused rows move while a part is given up, then are replayed", async () => {
  const name = "rb9_plain";
  const random = randomOf(seedFromEnvironment());
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE told (id int PRIMARY KEY, region text, note text); ALTER TABLE told REPLICA IDENTITY FULL;
      INSERT INTO told SELECT n, ${REGIONS}[1 + n % 6], 'fine' FROM generate_series(1, 300) n`),
  });
  const KEYS = "public.told=region";
  const env = { ROUTER_ON_ERROR: "dead-letter" };
  const [a, b] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite")];
  await pipeline.cdc();
  const now = await router(pipeline, a, "0/2", KEYS, env);
  await router(pipeline, b, "1/2", KEYS, env);
  await untilWhole(pipeline, [a, b]);
  const file = new Database(a.url.replace("sqlite://", ""));
  file.run("PRAGMA busy_timeout = 10000");
  for (const on of ["UPDATE", "INSERT"]) file.run(`CREATE TRIGGER refuses_${on} BEFORE ${on} ON told WHEN new.note = 'refused' BEGIN SELECT RAISE(ABORT, 'no'); END`);
  const writer = repeat(pipeline.mainUrl, (client) => async () => {
    const id = random.between(1, 320);
    const region = random.pick(["eu", "uk", "us", "jp", "br", "in"]);
    const note = random.chance(0.1) ? "refused" : `n${id}`;
    await client.query("INSERT INTO told VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET region = excluded.region, note = excluded.note", [id, region, note]);
    if (random.chance(0.2)) await client.query("DELETE FROM told WHERE id = $1", [random.between(1, 320)]);
    if (random.chance(0.2)) await client.query("UPDATE told SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM told t WHERE t.id = $2)", [id, random.between(1, 320)]);
    if (random.chance(0.3)) await client.query("UPDATE told SET region = $2 WHERE id = $1", [random.between(1, 320), random.pick(["eu", "uk", "us", "jp", "br", "in"])]);
    return true;
  });
  await Bun.sleep(2_000);
  await Bun.sleep(4_000);
  await Bun.sleep(1_000);
  show(`${await writer.stop()} writes`);
  await until(async () => (await now.status()).lagEvents === 0, 20_000);
  const held = () => new Database(a.url.replace("sqlite://", ""), { readonly: true }).query<{ n: number }, []>("SELECT count(*) n FROM cascade_held_keys").get()?.n;
  show(`held ${held()}`);
  for (const on of ["UPDATE", "INSERT"]) file.run(`DROP TRIGGER refuses_${on}`);
  file.close();
  const replayed = run(pipeline, a, "shard-router/src/dead-letters-command.ts", ["replay"], { ROUTER_SHARD: "0/2", ROUTER_SHARD_KEYS: KEYS });
  show("replaying");
  for (let n = 0; n < 5 && (await Promise.race([replayed.exited, Bun.sleep(5_000)])) === undefined; n++) show(`held ${held()}`);
  const probe = new Database(a.url.replace("sqlite://", ""), { readonly: true });
  show(JSON.stringify(probe.query("SELECT * FROM cascade_held_keys LIMIT 4").all()).slice(0, 2500));
  if (await Promise.race([replayed.exited, Bun.sleep(1)]) === undefined) {
    show(`replay hangs: ${replayed.log().split("\n").slice(-6).join(" / ")}; held ${held()}; router: ${JSON.stringify(await now.status()).slice(0, 1500)}`);
    replayed.signal("SIGKILL");
  }
  show(`${(await replayed.exited).code} ${replayed.log().split("\n").slice(-3).join(" / ")}`);
  await untilWhole(pipeline, [a, b]);
});

test("docs: lists and ranges, the SQL of whose row it is, wrong inputs", async () => {
  const name = "rb9_docs";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE countries (code text PRIMARY KEY); INSERT INTO countries VALUES ('de');
      CREATE TABLE orders (id int PRIMARY KEY, customer_id int, tenant text, price numeric, flag bool, at timestamptz); ALTER TABLE orders REPLICA IDENTITY FULL;
      CREATE TABLE byprice (id int PRIMARY KEY, price numeric); ALTER TABLE byprice REPLICA IDENTITY FULL;
      CREATE TABLE bytwo (tenant text, id int, PRIMARY KEY (tenant, id));
      CREATE TABLE regional (id int PRIMARY KEY, region text); ALTER TABLE regional REPLICA IDENTITY FULL;
      CREATE TABLE ranged (id int PRIMARY KEY);
      INSERT INTO orders SELECT n, nullif(n % 40, 3), 't' || n % 5, n / 4.0, n % 2 = 0, now() FROM generate_series(1, 400) n;
      INSERT INTO byprice SELECT n, n / 4.0 FROM generate_series(1, 400) n;
      INSERT INTO bytwo SELECT 't' || n % 5, n FROM generate_series(1, 400) n;
      INSERT INTO regional SELECT n, (ARRAY['eu','uk','us'])[1 + n % 3] FROM generate_series(1, 400) n;
      INSERT INTO ranged SELECT n FROM generate_series(1, 400) n`),
  });
  const keys = (regions: string, range: string) => `public.countries=*,public.orders=customer_id,public.byprice=price,public.bytwo=tenant+id,public.regional=region:${regions},public.ranged=id:${range}`;
  const east = await shards.make("east", "postgres");
  const west = await shards.make("west", "mariadb");
  const third = await shards.make("third", "duckdb");
  const K = [keys("eu|uk", "..199"), keys("us", "200.."), keys("uk", "100..199")];
  await pipeline.cdc();
  const re = await router(pipeline, east, "0/2", K[0] as string);
  const rw = await router(pipeline, west, "1/2", K[1] as string);
  await untilWhole(pipeline, [east, west], "public.countries");
  // The page's SQL.
  const pg = async (sql: string) => (await pipeline.sql(`SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; `).then(() => pipeline.sql(sql))) as readonly Record<string, unknown>[];
  const ids = async (table: string, expression: string) => (await pg(`SELECT id FROM ${table} WHERE ${expression} = 1 ORDER BY id`)).map((r) => Number(r["id"])).join();
  const mariadb = await testMariadb();
  const onWest = async (table: string) => ((await mariadb?.query(`${name}_west`, `SELECT id FROM ${table} ORDER BY id`)) as readonly Record<string, unknown>[]).map((r) => Number(r["id"])).join();
  const hash = "('x' || left(md5(";
  expect(await onWest("orders")).toBe(await ids("orders", `${hash}coalesce(customer_id::text, '')), 8))::bit(32)::bigint % 2`));
  expect(await onWest("byprice")).toBe(await ids("byprice", `${hash}coalesce(trim_scale(price)::text, '')), 8))::bit(32)::bigint % 2`));
  expect(await onWest("bytwo")).toBe(await ids("bytwo", `${hash}concat_ws(chr(31), coalesce(tenant::text, ''), id::text)), 8))::bit(32)::bigint % 2`));
  const own = await mariadb?.query(`${name}_west`, "SELECT count(*) AS n FROM orders WHERE CONV(LEFT(MD5(COALESCE(customer_id, '')), 8), 16, 10) % 2 <> 1");
  show(`strays by MariaDB's SQL: ${JSON.stringify(own)}`);

  const say = async (what: string, shard: Shard, args: readonly string[], env: Record<string, string> = {}) => {
    const { code, said } = await reshard(pipeline, shard, [...args, "--timeout", "3"], env);
    show(`=== ${what}: ${code}\n${said.trim().split("\n").slice(0, 9).join("\n")}`);
  };
  await say("no keys, values stay on both", east, ["--shard", "0/4", "--beside", third.url]);
  const rt = await router(pipeline, third, "2/4", K[2] as string);
  await Bun.sleep(4_000);
  await rt.stop();
  await say("without --keys", east, ["--shard", "0/4", "--beside", third.url]);
  await say("same url twice", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", third.url, "--beside", third.url]);
  await say("itself", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", east.url]);
  await say("typo in rule", east, ["--shard", "0/4", "--keys", keys("eu", "..99").replace("orders=customer_id", "orders=customer"), "--beside", third.url]);
  await say("value that nobody has", east, ["--shard", "0/4", "--keys", keys("de", "..99"), "--beside", third.url]);
  await say("gap in range", east, ["--shard", "0/4", "--keys", keys("eu", "..98"), "--beside", third.url]);
  await say("no beside", east, ["--shard", "0/4", "--keys", keys("eu", "..99")]);
  await say("wrong index", east, ["--shard", "1/4", "--keys", keys("eu", "..99"), "--beside", third.url]);
  await say("wrong password", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", "postgres://u:pa55-w0rd@127.0.0.1:1/nothing"]);
  await say("host unknown", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", "mysql://u:pa55-w0rd@nowhere.invalid:3306/nothing"]);
  await say("sqlite path typo", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", third.url.replace("duckdb", "sqlite").replace("third", "thrid")]);
  await say("main-db itself", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", pipeline.mainUrl]);
  await say("other name", { ...east, name: "west" }, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", west.url]);
  await say("fine", east, ["--shard", "0/4", "--keys", keys("eu", "..99"), "--beside", third.url]);
  await router(pipeline, east, "0/4", keys("eu", "..99"));
  await router(pipeline, third, "2/4", K[2] as string);
  await Bun.sleep(2_000);
  show(`old router of east: ${JSON.stringify(await Promise.race([re.child.exited, Bun.sleep(10)]))}`);
  await pipeline.sql("INSERT INTO orders (id, customer_id) SELECT n, n FROM generate_series(1000, 1100) n; UPDATE regional SET region = 'eu' WHERE id < 50");
  await Bun.sleep(5_000);
  for (const one of pipeline.logs().matchAll(/"level":"(error|fatal)".*/g)) show(one[0].slice(0, 300));
  await rw.stop();
});
