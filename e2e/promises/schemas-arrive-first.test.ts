import { expect, test } from "bun:test";
import { findMariadb } from "@cascade/local/mariadb-install.ts";
import { until } from "@cascade/local/wait.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { serviceVictim, strike, type Victim } from "../faults.ts";
import { BRING_BACK, LIVING_SCHEMA, livingTables } from "../living-tables.ts";
import { type Engine, openPipeline } from "../pipeline.ts";
import { repeat } from "../reconnecting.ts";
import { shapeDifferences } from "../replica-shape.ts";

const ENGINES: readonly Engine[] = ["postgres", ...(findMariadb() === null ? [] : (["mariadb"] as const)), "sqlite", "duckdb"];

/** P9: a schema change reaches a replica before the first row that needs it. */
test.each([1, 3])(
  "tables are altered under load, everything is killed, and schemas and rows end equal on every engine: %d partitions",
  async (partitions) => {
    const seed = seedFromEnvironment();
    const random = randomOf(seed);
    const say = (line: string): void => void process.stderr.write(`schemas-arrive-first, CASCADE_SEED=${seed}: ${line}\n`);
    await using pipeline = await openPipeline({
      name: `p9_schemas_${partitions}`,
      engines: ENGINES,
      schema: (client) => client.query(LIVING_SCHEMA),
      // One chunk must not be all there is of a table.
      env: { CDC_SNAPSHOT_CHUNK_ROWS: "20", KAFKA_PARTITIONS: String(partitions) },
    });
    const { main, kafka } = pipeline;
    const steps = process.env["CASCADE_STEPS"] === "show" ? say : () => {};
    const load = repeat(pipeline.mainUrl, (client) => {
      const living = livingTables(client, random);
      return async () => {
        const done = await living.step();
        if (done !== null) steps(done);
        await Bun.sleep(random.between(0, 30));
        return done !== null;
      };
    });
    const victims: readonly Victim[] = [
      await serviceVictim("cdc", () => pipeline.cdc()),
      ...(await Promise.all(ENGINES.map((engine) => serviceVictim(`router of ${engine}`, () => pipeline.router(engine))))),
      { name: "Kafka", kill: () => kafka.kill(), start: () => kafka.start() },
      { name: "main-db", kill: () => main.kill(), start: () => main.start() },
    ];
    await Bun.sleep(5_000);
    await strike({ random: randomOf(seed + 1), victims, rounds: 1, pauseMs: 2_000, awayMs: 1_000, say });
    const done = await load.stop();
    say(`${done} transactions`);
    expect(done).toBeGreaterThan(100);
    await pipeline.sql(BRING_BACK);
    await pipeline.expectEqual();
    // A table without rows follows after its rows are equal.
    let differences: readonly string[] = [];
    const compare = async () => {
      const all = pipeline.replicas.map(({ name, url }) => shapeDifferences(pipeline.mainUrl, name, url));
      differences = (await Promise.all(all)).flat();
      return differences.length === 0;
    };
    if (!(await until(() => compare().catch(() => false), 45_000, 500)))
      throw new Error(`the tables are not alike:\n${differences.join("\n")}\n${pipeline.logs()}`);
  },
  240_000,
);
