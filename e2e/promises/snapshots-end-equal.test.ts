import { expect, test } from "bun:test";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "../faults.ts";
import { changeRows, GROWN_SCHEMA, grownRows } from "../living-rows.ts";
import { type Engine, openPipeline } from "../pipeline.ts";
import { repeat } from "../reconnecting.ts";

const ENGINES: readonly Engine[] = ["postgres", ...(findMariadb() === null ? [] : (["mariadb"] as const)), "sqlite", "duckdb"];

/** P10: a snapshot taken under load, killed and resumed, ends equal. */
test("a database with rows is copied while it is written to and everything is killed, and ends equal on every engine", async () => {
  const seed = seedFromEnvironment();
  const random = randomOf(seed);
  const say = (line: string): void => void process.stderr.write(`snapshots-end-equal, CASCADE_SEED=${seed}: ${line}\n`);
  await using pipeline = await openPipeline({
    name: "p10_snapshot",
    engines: ENGINES,
    schema: async (client) => {
      await client.query(GROWN_SCHEMA);
      await client.query(grownRows(1));
    },
    env: { CDC_SNAPSHOT_CHUNK_ROWS: "50" },
  });
  const { main, kafka } = pipeline;
  const load = repeat(pipeline.mainUrl, (client) => async () => {
    const done = await changeRows(client, random);
    await Bun.sleep(random.between(0, 10));
    return done;
  });
  const cdc = () => serviceVictim("cdc", () => pipeline.cdc());
  const victims: readonly Victim[] = [
    await cdc(),
    ...(await Promise.all(ENGINES.map((engine) => serviceVictim(`router of ${engine}`, () => pipeline.router(engine))))),
    { name: "Kafka", kill: () => kafka.kill(), start: () => kafka.start() },
    { name: "main-db", kill: () => main.kill(), start: () => main.start() },
  ];
  await strike({ random: randomOf(seed + 1), victims, rounds: 2, pauseMs: 1_500, awayMs: 800, say });
  const done = await load.stop();
  say(`${done} transactions`);
  expect(done).toBeGreaterThan(100);
  await pipeline.expectEqual();
}, 240_000);
