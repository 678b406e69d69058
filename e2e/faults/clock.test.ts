import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { until } from "@cascade/local/wait.ts";
import { moreChanges, startLoad } from "../load.ts";
import { openPipeline } from "../pipeline.ts";
import { retrying } from "../refusals.ts";

/** The clocks of cdc and of a router are set ahead and back while they work: no timeout, lag or order may hang on them. */

const HOUR_MS = 3_600_000;

test("clocks jump by days and back under load, and the replicas end equal", async () => {
  const folder = mkdtempSync(join(tmpdir(), "cascade-clock-"));
  const file = join(folder, "off-by");
  writeFileSync(file, "0");
  const env = {
    BUN_OPTIONS: `--preload ${join(import.meta.dir, "shifted-clock.ts")}`,
    CASCADE_CLOCK_FILE: file,
  };
  try {
    await using pipeline = await openPipeline({ name: "faults_clock", schema: createDemoSchema, env });
    const cdc = await pipeline.cdc();
    await cdc.ready();
    const routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
    const load = startLoad(pipeline.mainUrl, { seed: 12, changesPerSecond: 300 });
    await moreChanges(load, 100);
    const setClock = (hours: number): void => writeFileSync(file, String(hours * HOUR_MS));
    for (const hours of [0.9, -1, -72, 0]) {
      setClock(hours);
      await moreChanges(load, 100);
      expect((await cdc.status()).lagSeconds).toBeGreaterThanOrEqual(0);
    }
    // Kafka refuses messages from the future: they wait until the clocks agree.
    setClock(24);
    await retrying(cdc, "KAFKA_CLOCK");
    setClock(0);
    await load.stop();
    await pipeline.expectEqual();
    for (const service of [cdc, ...routers]) expect(await until(async () => (await service.status()).ready, 20_000)).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 120_000);
