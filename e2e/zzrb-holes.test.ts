import { Database } from "bun:sqlite";
import { expect, setDefaultTimeout, test } from "bun:test";
import { until } from "@cascade/local/wait.ts";
import { openPipeline, untilItApplies } from "./pipeline.ts";
import { emptyTopics } from "./topics.ts";
import { differences, reshard, router, run, Shards, show, untilWhole } from "./zzrb-lab.ts";

setDefaultTimeout(240_000);
const count = (url: string, sql: string): number => {
  const db = new Database(url.replace("sqlite://", ""), { readonly: true });
  db.run("PRAGMA busy_timeout = 10000");
  const n = Number(db.query<{ n: number }, []>(sql).get()?.n);
  db.close();
  return n;
};

/** Step 2 as docs/sharding.md writes it, in a shell that lacks the routers' KAFKA_TOPIC_PREFIX (or has a typo in it). */
test("prefix: the command with another topic prefix drops rows that the replica beside has not", async () => {
  const name = "rb9_prefix";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query("CREATE TABLE items (id int PRIMARY KEY, note text); INSERT INTO items SELECT n, 'x' FROM generate_series(1, 2000) n"),
  });
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  await router(pipeline, a, "0/2", null);
  await router(pipeline, b, "1/2", null);
  await untilWhole(pipeline, [a, b]);
  const rc = await router(pipeline, c, "2/4", null);
  await untilItApplies(rc);
  await rc.stop();
  await pipeline.sql("INSERT INTO items SELECT n, 'x' FROM generate_series(2001, 6000) n");
  await untilWhole(pipeline, [a, b]);
  const said = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url, "--timeout", "2"], { KAFKA_TOPIC_PREFIX: "rb9_prefx" });
  show(`code ${said.code}\n${said.said}`);
  const wrong = await differences(pipeline, [a, b, c], null);
  show(JSON.stringify(wrong, null, 1));
  expect(wrong).toEqual([]);
});

/** ROUTER_TABLES of the command's environment is narrower than that of the routers. */
test("tables: the command with a narrower ROUTER_TABLES drops rows of tables that it has not looked at", async () => {
  const name = "rb9_tables";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE items (id int PRIMARY KEY, note text); INSERT INTO items SELECT n, 'x' FROM generate_series(1, 2000) n;
      CREATE TABLE others (id int PRIMARY KEY, note text); INSERT INTO others SELECT n, 'x' FROM generate_series(1, 10) n`),
  });
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  await router(pipeline, a, "0/2", null);
  await router(pipeline, b, "1/2", null);
  await untilWhole(pipeline, [a, b]);
  const rc = await router(pipeline, c, "2/4", null);
  await until(async () => { try { return count(c.url, "SELECT count(*) n FROM items") > 400 && count(c.url, "SELECT count(*) n FROM others") > 0; } catch { return false; } }, 30_000);
  await rc.stop();
  await pipeline.sql("INSERT INTO items SELECT n, 'x' FROM generate_series(2001, 6000) n");
  await untilWhole(pipeline, [a, b]);
  const said = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url, "--timeout", "2"], { ROUTER_TABLES: "public.others" });
  show(`code ${said.code}\n${said.said}`);
  const wrong = await differences(pipeline, [a, b, c], null);
  show(JSON.stringify(wrong, null, 1));
  expect(wrong).toEqual([]);
});

/** "wait for no copy": a copy that has begun is not waited for. */
test("copying: rows are dropped while the replica beside is still being filled by a copy", async () => {
  const name = "rb9_copying";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query("CREATE TABLE big (id int PRIMARY KEY, note text); INSERT INTO big SELECT n, 'x' FROM generate_series(1, 20000) n"),
  });
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  const cdc = await pipeline.cdc({ env: { CDC_SNAPSHOT_CHUNK_ROWS: "10000" } });
  await router(pipeline, a, "0/2", null);
  await router(pipeline, b, "1/2", null);
  await untilWhole(pipeline, [a, b]);
  // Its retention has taken the beginning: what Kafka has no more comes by a copy.
  await emptyTopics(pipeline.kafka.brokers, [`${name}.public.big`]);
  await cdc.stop();
  await pipeline.cdc({ env: { CDC_SNAPSHOT_CHUNK_ROWS: "20" } });
  await router(pipeline, c, "2/4", null);
  const { code, said } = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url]);
  const n = count(c.url, "SELECT count(*) n FROM big");
  const wrong = await differences(pipeline, [a, b, c], null);
  show(`code ${code}\n${said}\nc has ${n}\n${JSON.stringify(wrong, null, 1)}`);
  await untilWhole(pipeline, [a, b, c]);
  show("whole in the end");
  expect(wrong).toEqual([]);
});

/** A table was renamed long ago, or dropped; the messages of its old topic are past retention. */
test("expired: a topic whose messages are all gone is waited for for ever", async () => {
  const name = "rb9_expired";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query(`CREATE TABLE items (id int PRIMARY KEY, note text); INSERT INTO items SELECT n, 'x' FROM generate_series(1, 300) n;
      CREATE TABLE gone (id int PRIMARY KEY, note text); INSERT INTO gone SELECT n, 'x' FROM generate_series(1, 300) n;
      CREATE TABLE old (id int PRIMARY KEY, note text); INSERT INTO old SELECT n, 'x' FROM generate_series(1, 300) n;`),
  });
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  await router(pipeline, a, "0/2", null);
  await router(pipeline, b, "1/2", null);
  await untilWhole(pipeline, [a, b]);
  await pipeline.sql("DROP TABLE gone; ALTER TABLE old RENAME TO anew; INSERT INTO anew SELECT n, 'x' FROM generate_series(301, 400) n");
  await untilWhole(pipeline, [a, b]);
  await emptyTopics(pipeline.kafka.brokers, [`${name}.public.gone`, `${name}.public.old`, `${name}.public.items`]);
  await router(pipeline, c, "2/4", null);
  const { code, said } = await reshard(pipeline, a, ["--shard", "0/4", "--beside", c.url, "--timeout", "40"]);
  show(`code ${code}\n${said}`);
  expect(code).toBe(0);
  await untilWhole(pipeline, [a, b, c]);
});

/** docs: "on none at no time". The position is that of the command's start: what main-db wrote since, the replica beside may not have for long. */
test("behind: rows written after the position are dropped before the replica beside has them", async () => {
  const name = "rb9_behind";
  await using shards = new Shards(name);
  await using pipeline = await openPipeline({
    name, engines: [],
    schema: (c) => c.query("CREATE TABLE items (id int PRIMARY KEY, note text); INSERT INTO items SELECT n, 'x' FROM generate_series(1, 200) n"),
  });
  const [a, b, c] = [await shards.make("a", "sqlite"), await shards.make("b", "sqlite"), await shards.make("c", "sqlite")];
  await pipeline.cdc();
  await router(pipeline, a, "0/2", null);
  await router(pipeline, b, "1/2", null);
  await untilWhole(pipeline, [a, b]);
  let seen = false;
  const child = run(pipeline, a, "shard-router/src/reshard-command.ts", ["--shard", "0/4", "--beside", c.url], {}, (line) => { seen ||= line.includes("waiting:"); });
  await until(async () => seen, 30_000);
  await pipeline.sql("INSERT INTO items SELECT n, 'x' FROM generate_series(201, 30000) n");
  await untilWhole(pipeline, [a, b]);
  await router(pipeline, c, "2/4", null, { ROUTER_BATCH_ROWS: "5" });
  const { code } = await child.exited;
  const n = count(c.url, "SELECT count(*) n FROM items");
  const wrong = await differences(pipeline, [a, b, c], null);
  show(`code ${code}\n${child.log()}\nc has ${n}\n${JSON.stringify(wrong, null, 1)}`);
  expect(wrong).toEqual([]);
});
