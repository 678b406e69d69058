import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { moreChanges, startLoad } from "../load.ts";
import { readTopic, rowsLeft } from "../topics.ts";
import { openFaultLab } from "./lab.ts";

/**
 * What was asked for is done, and the answer never comes: the transaction of a replica, the request to Kafka. Whoever does it again doubles
 * the rows of the audit table, which has no key; whoever does not may lose some.
 */

test("a replica commits, and its router does not hear of it: nothing is doubled", async () => {
  const engines = ["postgres", "mariadb"] as const;
  await using lab = await openFaultLab({ name: "faults_commits", engines, schema: createDemoSchema });
  await (await lab.cdc()).ready();
  const routers = await Promise.all(engines.map((engine) => lab.router(engine)));
  for (const router of routers) await router.ready();
  const load = startLoad(lab.pipeline.mainUrl, { seed: 3, changesPerSecond: 300 });
  for (let round = 0; round < 3; round++) {
    await moreChanges(load, 50);
    await Promise.all([
      lab.link("router - PostgreSQL").loseAnswerTo("COMMIT"),
      lab.link("router - MariaDB").loseAnswerTo("COMMIT"),
    ]);
  }
  await load.stop();
  await lab.pipeline.expectEqual();
  for (const router of routers) expect(router.log()).toContain('"code":"');
}, 120_000);

test("Kafka has what it was sent, and cdc does not hear of it: what it sends again is the same", async () => {
  await using lab = await openFaultLab({ name: "faults_sends", engines: ["postgres"], schema: createDemoSchema });
  const { pipeline } = lab;
  await (await lab.cdc()).ready();
  await lab.router("postgres");
  const load = startLoad(pipeline.mainUrl, { seed: 4, changesPerSecond: 300 });
  for (let round = 0; round < 3; round++) {
    await moreChanges(load, 50);
    await lab.link("cdc - Kafka").loseAnswerTo(`${pipeline.name}.public.`);
  }
  await load.stop();
  await pipeline.expectEqual();
  const [row] = await pipeline.sql("SELECT count(*)::int AS rows FROM audit");
  const messages = await readTopic(pipeline.kafka.brokers, `${pipeline.name}.public.audit`);
  expect(rowsLeft(messages)).toBe(Number(row?.["rows"]));
}, 120_000);
