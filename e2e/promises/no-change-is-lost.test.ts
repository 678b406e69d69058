import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "../faults.ts";
import { startLoad } from "../load.ts";
import { openPipeline } from "../pipeline.ts";

/** P1: a committed change reaches every owning replica, whatever process is killed, whenever. */
test("cdc, routers, Kafka, main-db and replica are killed under load, and the replicas end equal", async () => {
  const seed = seedFromEnvironment();
  const say = (line: string): void => void process.stderr.write(`no-change-is-lost, CASCADE_SEED=${seed}: ${line}\n`);
  await using pipeline = await openPipeline({ name: "p1_lost", schema: createDemoSchema });
  const { main, kafka, replicaServer } = pipeline;
  const cdc = await pipeline.cdc();
  await cdc.ready();
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 400 });
  let first: typeof cdc | null = cdc;
  const victims: readonly Victim[] = [
    await serviceVictim("cdc", async () => {
      const started = first ?? (await pipeline.cdc());
      first = null;
      return started;
    }),
    await serviceVictim("router of PostgreSQL", () => pipeline.router("postgres")),
    await serviceVictim("router of SQLite", () => pipeline.router("sqlite")),
    { name: "Kafka", kill: () => kafka.kill(), start: () => kafka.start() },
    { name: "main-db", kill: () => main.kill(), start: () => main.start() },
    { name: "replica PostgreSQL", kill: () => replicaServer.kill(), start: () => replicaServer.start() },
  ];
  await strike({ random: randomOf(seed), victims, rounds: 2, pauseMs: 1_500, awayMs: 1_000, say });
  const changes = await load.stop();
  say(`${changes} changes written`);
  await pipeline.expectEqual();
  expect(changes).toBeGreaterThan(1_000);
}, 180_000);
