import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { moreChanges, startLoad } from "../load.ts";
import { openFaultLab } from "./lab.ts";

/** main-db goes away and comes back: as it does for a new setting (fast), for an impatient operator (immediate), and by a crash. */
test("main-db is restarted three ways under load, and the replicas end equal", async () => {
  await using lab = await openFaultLab({ name: "faults_main", engines: ["postgres", "sqlite"], schema: createDemoSchema });
  const { main, mainUrl } = lab.pipeline;
  await (await lab.cdc()).ready();
  await Promise.all([lab.router("postgres"), lab.router("sqlite")]);
  const load = startLoad(mainUrl, { seed: 5, changesPerSecond: 400 });
  for (const signal of ["SIGINT", "SIGQUIT", "SIGKILL"] as const) {
    await moreChanges(load, 200);
    await main.kill(signal);
    await main.start();
  }
  await moreChanges(load, 200);
  expect(await load.stop()).toBeGreaterThan(700);
  await lab.pipeline.expectEqual();
}, 120_000);
