import { expect, test } from "bun:test";
import { until } from "@cascade/local/wait.ts";
import { Client } from "pg";
import { openPipeline, type Pipeline } from "./pipeline.ts";

/**
 * An index that is made CONCURRENTLY beside a transaction that changes its table: wal2json cannot decode that transaction once it has
 * decoded a younger one (https://github.com/eulerto/wal2json/issues/218), and whoever asks for both again fails for ever.
 */
test.each(["stream", "poll"])(
  "an index made CONCURRENTLY does not stick the slot: %s",
  async (mode) => {
    await using pipeline = await openPipeline({
      name: `undecodable_${mode}`,
      engines: ["postgres"],
      schema: (client) => client.query("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'seed')"),
      env: { CDC_MODE: mode },
    });
    const cdc = await pipeline.cdc();
    await cdc.ready();
    await pipeline.router("postgres");
    await pipeline.expectEqual();
    const [older, indexing] = [await connected(pipeline), await connected(pipeline)];
    for (let round = 0; round < 3; round++) {
      await older.query(
        "BEGIN; UPDATE t SET v = v || '+' WHERE id = 1; DELETE FROM t WHERE id < 0; UPDATE t SET v = v || '-' WHERE id = 1",
      );
      const indexed = indexing.query(`CREATE INDEX CONCURRENTLY i${round} ON t (v)`);
      // Its first transaction is over: it waits for the older one.
      expect(await until(async () => (await invalidIndexes(pipeline)) === 1, 20_000)).toBe(true);
      await pipeline.sql("INSERT INTO t VALUES ($1, 'younger')", [round + 2]);
      await older.query("COMMIT");
      await indexed;
    }
    for (const client of [older, indexing]) await client.end();
    await pipeline.expectEqual();
    expect(await until(async () => (await cdc.status()).ready, 20_000)).toBe(true);
  },
  120_000,
);

async function connected({ mainUrl }: Pipeline): Promise<Client> {
  const client = new Client({ connectionString: mainUrl });
  await client.connect();
  return client;
}

async function invalidIndexes({ sql }: Pipeline): Promise<number> {
  const [row] = await sql("SELECT count(*)::int AS n FROM pg_index WHERE NOT indisvalid");
  return Number(row?.["n"]);
}
