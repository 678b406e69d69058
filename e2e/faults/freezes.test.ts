import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { randomOf, seedFromEnvironment } from "@cascade/workload/random";
import { moreChanges, startLoad } from "../load.ts";
import { openFaultLab } from "./lab.ts";

/** SIGSTOP: a process that neither answers nor is gone, as on a host that swaps or a disk that hangs. */
test("each process is frozen for a while under load, and the replicas end equal", async () => {
  const seed = seedFromEnvironment();
  const random = randomOf(seed);
  process.stderr.write(`faults/freezes, CASCADE_SEED=${seed}\n`);
  const engines = ["postgres", "mariadb", "sqlite", "duckdb"] as const;
  await using lab = await openFaultLab({ name: "faults_freezes", engines, schema: createDemoSchema });
  const { pipeline, mariadb } = lab;
  const services = [await lab.cdc(), ...(await Promise.all(engines.map((engine) => lab.router(engine))))];
  for (const service of services) await service.ready();
  const servers = [pipeline.main, pipeline.kafka, pipeline.replicaServer, ...(mariadb === null ? [] : [mariadb])];
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 300 });
  await moreChanges(load, 100);
  for (const frozen of [...services.map(({ child }) => child), ...servers]) {
    frozen.freeze();
    await Bun.sleep(random.between(200, 900));
    frozen.thaw();
    await Bun.sleep(random.between(0, 200));
  }
  expect(await load.stop()).toBeGreaterThan(300);
  await pipeline.expectEqual();
}, 120_000);
