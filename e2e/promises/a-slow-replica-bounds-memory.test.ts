import { setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { startKafka } from "@cascade/local/kafka.ts";
import { makeRunFolder } from "@cascade/local/run-folder.ts";
import type { Service } from "@cascade/local/stack.ts";
import { peakRssBytesOf } from "@cascade/local/usage-of.ts";
import { openPipeline } from "../pipeline.ts";

/** P5: a slow or absent replica bounds memory and holds back only its own router. */

setDefaultTimeout(240_000);

/** 250 and 500, and room for a machine that has no time to collect. */
const MAX_RSS_MB = 280;
const MAX_RSS_OF_LARGE_ROWS_MB = 600;

function expectBelow(services: readonly Service<unknown>[], maxMb: number): void {
  const peaks = services.map(({ name, child }) => ({ name, mb: Math.round(peakRssBytesOf(child.pid) / 2 ** 20) }));
  const over = peaks.filter(({ mb }) => mb > maxMb || mb === 0);
  if (over.length > 0) throw new Error(`not below ${maxMb} MB: ${peaks.map(({ name, mb }) => `${name} ${mb}`).join(", ")}`);
  process.stderr.write(`${peaks.map(({ name, mb }) => `${name}: ${mb} MB`).join(", ")}
`);
}

test("a replica that does not answer holds back its own router alone, and both keep their memory", async () => {
  await using pipeline = await openPipeline({
    name: "p5_slow",
    schema: (client) => client.query("CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL)"),
  });
  const { sql, replicaServer } = pipeline;
  const cdc = await pipeline.cdc();
  const routers = [await pipeline.router("postgres"), await pipeline.router("sqlite")];
  await sql("INSERT INTO t VALUES (0, 'first')");
  await pipeline.expectEqual();
  replicaServer.freeze();
  try {
    for (let from = 1; from < 400_000; from += 20_000)
      await sql(`INSERT INTO t SELECT n, repeat(md5(n::text), 6) FROM generate_series(${from}, ${from + 19_999}) AS n`);
    await sql("UPDATE t SET v = v || '.' WHERE id % 4 = 0");
    await pipeline.expectEqual(60_000, ["sqlite"]);
  } finally {
    replicaServer.thaw();
  }
  await pipeline.expectEqual(60_000);
  expectBelow([cdc, ...routers], MAX_RSS_MB);
});

test("rows of 50 MB pass, beside ordinary ones", async () => {
  await using pipeline = await openPipeline({
    name: "p5_large",
    schema: (client) =>
      client.query(
        "CREATE TABLE large (id int PRIMARY KEY, v text NOT NULL); CREATE TABLE small (id int PRIMARY KEY, v text NOT NULL)",
      ),
  });
  const { sql } = pipeline;
  // The tests' own broker is kept too small for it.
  await using kafka = await startKafka({
    dir: join(makeRunFolder("runs"), "large-kafka"),
    removeWhenOrphaned: true,
    javaOptions: ["-Xmx1g"],
  });
  const { brokers } = kafka;
  const cdc = await pipeline.cdc({ brokers });
  const routers = [await pipeline.router("postgres", { brokers }), await pipeline.router("sqlite", { brokers })];
  for (let id = 1; id <= 3; id++) {
    await sql(`INSERT INTO large SELECT ${id}, string_agg(md5(n::text), '') FROM generate_series(1, 1638400) AS n`);
    await sql(`INSERT INTO small SELECT n, 'v' FROM generate_series(${id * 1000}, ${id * 1000 + 999}) AS n`);
  }
  await sql("UPDATE large SET id = id + 10 WHERE id < 3");
  await pipeline.expectEqual(120_000);
  expectBelow([cdc, ...routers], MAX_RSS_OF_LARGE_ROWS_MB);
});
