import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { until } from "@cascade/local/wait.ts";
import { moreChanges, startLoad } from "../load.ts";
import { refusal, retrying } from "../refusals.ts";
import { openFaultLab } from "./lab.ts";

/** The slot has one reader, and what it has not read is nowhere else. */

test("a second cdc waits for the slot, and has it when the first is killed; the first, back, waits in its turn", async () => {
  await using lab = await openFaultLab({ name: "faults_slot", engines: ["postgres"], schema: createDemoSchema });
  const { pipeline } = lab;
  const first = await lab.cdc();
  await first.ready();
  await lab.router("postgres");
  const load = startLoad(pipeline.mainUrl, { seed: 10, changesPerSecond: 300 });
  await moreChanges(load, 100);
  const second = await lab.cdc();
  await retrying(second, "SLOT_ACTIVE");
  await first.kill();
  await second.ready(20_000);
  const back = await lab.cdc();
  await retrying(back, "SLOT_ACTIVE");
  await moreChanges(load, 300);
  await load.stop();
  await pipeline.expectEqual();
}, 120_000);

test("a slot that is dropped stops cdc, which says what is lost and what to do", async () => {
  await using lab = await openFaultLab({ name: "faults_dropped", engines: ["postgres"], schema: createDemoSchema });
  const { pipeline } = lab;
  const cdc = await lab.cdc();
  await cdc.ready();
  await lab.router("postgres");
  const load = startLoad(pipeline.mainUrl, { seed: 11, changesPerSecond: 300 });
  await moreChanges(load, 100);
  const dropped = async (): Promise<boolean> => {
    await pipeline.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", [
      pipeline.name,
    ]);
    await pipeline.sql("SELECT pg_drop_replication_slot($1)", [pipeline.name]);
    return true;
  };
  expect(await until(() => dropped().catch(() => false), 20_000, 5)).toBe(true);
  const findings = await refusal(cdc);
  expect(findings.map(({ code }) => code)).toEqual(["SLOT_LOST"]);
  await load.stop();
}, 120_000);
