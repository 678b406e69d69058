import { expect, test } from "bun:test";
import { openSession } from "@cascade/cdc/src/postgres/session.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { changeRows, GROWN_SCHEMA, grownRows } from "./living-rows.ts";
import { openPipeline } from "./pipeline.ts";
import { repeat } from "./reconnecting.ts";
import { emptyTopics, tableTopics } from "./topics.ts";

/** Which rows were written last by whom: another text as soon as anything writes to one of them. */
async function writtenRows(url: string): Promise<string> {
  await using session = await openSession(url);
  const versions = ["items", "words", "pairs", "sizes", "parts", "lines"].map(
    (table) => `(SELECT string_agg(ctid::text || xmin::text, ',' ORDER BY ctid) FROM public.${table})`,
  );
  const { rows } = await session.client.query<{ readonly text: string }>(`SELECT md5(concat(${versions.join(", ")})) AS text`);
  return rows[0]?.text ?? "";
}

test("a new replica, and one that fell behind what Kafka holds, ask for a copy, and nobody else's rows are touched", async () => {
  const seed = seedFromEnvironment();
  const random = randomOf(seed);
  process.stderr.write(`a-replica-joins, CASCADE_SEED=${seed}\n`);
  await using pipeline = await openPipeline({
    name: "replica_joins",
    engines: ["postgres", "sqlite", "duckdb"],
    schema: async (client) => {
      await client.query(GROWN_SCHEMA);
      await client.query(grownRows(1));
    },
    env: { CDC_SNAPSHOT_CHUNK_ROWS: "1000" },
  });
  const { kafka, name } = pipeline;
  const changes = (most: number) => {
    const load = repeat(pipeline.mainUrl, (client) => () => changeRows(client, random));
    return (async () => {
      while (load.count() < most) await Bun.sleep(10);
      await load.stop();
    })();
  };
  await pipeline.cdc();
  await pipeline.router("postgres");
  const sqlite = await pipeline.router("sqlite");
  await pipeline.expectEqual(undefined, ["postgres", "sqlite"]);
  await sqlite.stop();
  await changes(100);
  await pipeline.expectEqual(undefined, ["postgres"]);
  await emptyTopics(kafka.brokers, await tableTopics(kafka.brokers, name));
  const url = pipeline.replicas.find((replica) => replica.name === "postgres")?.url ?? "";
  const before = await writtenRows(url);
  const back = await pipeline.router("sqlite");
  await pipeline.router("duckdb");
  await pipeline.expectEqual();
  expect(await writtenRows(url)).toBe(before);
  expect(back.log()).toContain("asks for a copy");
  // And it goes on from there like any other.
  await changes(100);
  await pipeline.expectEqual();
}, 180_000);
