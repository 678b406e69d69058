import { setDefaultTimeout, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "./faults.ts";
import { startLoad } from "./load.ts";
import { MOVING_SCHEMA, startMoving } from "./moving-rows.ts";
import { type Engine, openPipeline } from "./pipeline.ts";

/** KAFKA_PARTITIONS on real servers: rows divided by their key, over partitions that several routers share. */

setDefaultTimeout(240_000);

const PARTITIONS = 4;
const env = { KAFKA_PARTITIONS: String(PARTITIONS) };
/** A file of DuckDB's is one process's. */
const ROUTERS: Readonly<Partial<Record<Engine, number>>> = {
  postgres: 3,
  sqlite: 2,
  ...(findMariadb() === null ? {} : { mariadb: 2 }),
  duckdb: 1,
};
const ENGINES = Object.keys(ROUTERS) as Engine[];

test("routers that share the partitions of tables end equal, whatever moves between them and whoever is killed", async () => {
  const seed = seedFromEnvironment();
  const say = (line: string): void => void process.stderr.write(`partitions, CASCADE_SEED=${seed}: ${line}\n`);
  const random = randomOf(seed);
  await using pipeline = await openPipeline({
    name: "partitions",
    engines: ENGINES,
    schema: async (client) => {
      await createDemoSchema(client);
      await client.query(MOVING_SCHEMA);
    },
  });
  let first: Awaited<ReturnType<typeof pipeline.cdc>> | null = await pipeline.cdc({ env });
  await first.ready();
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 200 });
  const moving = startMoving(pipeline.mainUrl, randomOf(seed + 1));
  const routers: Victim[] = [];
  for (const engine of ENGINES)
    for (let at = 0; at < (ROUTERS[engine] ?? 0); at++)
      routers.push(await serviceVictim(`router ${at} of ${engine}`, () => pipeline.router(engine)));
  const capture = await serviceVictim("cdc", async () => {
    const started = first ?? (await pipeline.cdc({ env }));
    first = null;
    return started;
  });
  await strike({ random, victims: [...routers, capture], rounds: 1, pauseMs: 1_500, awayMs: 1_000, say });
  await pipeline.sql(
    `ALTER TABLE heavy ADD COLUMN extra int DEFAULT 7; ALTER TABLE pairs RENAME COLUMN n TO number; ALTER TABLE told ALTER COLUMN id TYPE bigint;
     ALTER TABLE heavy DROP CONSTRAINT heavy_pkey, ADD PRIMARY KEY (region, id), ADD UNIQUE (id)`,
  );
  await strike({ random, victims: routers, rounds: 1, pauseMs: 1_000, awayMs: 500, say });
  say(`${await load.stop()} changes, ${await moving.stop()} moves`);
  await pipeline.expectEqual();
});
