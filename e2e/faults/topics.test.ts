import { expect, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { until } from "@cascade/local/wait.ts";
import { moreChanges, startLoad } from "../load.ts";
import { refusal } from "../refusals.ts";
import { emptyTopics, tableTopics, topicEnd, withAdmin } from "../topics.ts";
import { type FaultLab, openFaultLab } from "./lab.ts";

/**
 * Kafka has lost what routers have not applied, or what they have: a topic deleted, a retention that ends too early, a broker that comes
 * back with an older disk. A router that sees it asks for a copy of the table, and says so.
 */

const asksForACopy = "asks for a copy";

async function changes({ pipeline }: FaultLab, seed: number, count: number): Promise<void> {
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 500 });
  await moreChanges(load, count);
  await load.stop();
}

/** Deletes the topic, and waits until Kafka has it no more. */
async function deleteTopic(brokers: string, topic: string): Promise<void> {
  await withAdmin(brokers, async (admin) => {
    await admin.deleteTopics({ topics: [topic] });
  });
}

test("a topic is deleted while all runs, and while its routers are down until it has grown past their offsets", async () => {
  await using lab = await openFaultLab({ name: "faults_topics", engines: ["postgres", "sqlite"], schema: createDemoSchema });
  const { pipeline } = lab;
  const { brokers } = pipeline.kafka;
  const cdc = await lab.cdc();
  await cdc.ready();
  const postgres = await lab.router("postgres");
  const sqlite = await lab.router("sqlite");
  await changes(lab, 20, 300);
  await pipeline.expectEqual();
  const topic = `${pipeline.name}.public.orders`;
  await deleteTopic(brokers, topic);
  await changes(lab, 21, 300);
  await pipeline.expectEqual();
  expect(postgres.log()).toContain(asksForACopy);
  await sqlite.stop();
  await changes(lab, 22, 100);
  await pipeline.expectEqual(undefined, ["postgres"]);
  const applied = await topicEnd(brokers, topic);
  await deleteTopic(brokers, topic);
  const load = startLoad(pipeline.mainUrl, { seed: 23, changesPerSecond: 700 });
  const grown = async (): Promise<boolean> => (await topicEnd(brokers, topic).catch(() => 0)) > applied + 20;
  expect(await until(grown, 60_000, 200)).toBe(true);
  await load.stop();
  const back = await lab.router("sqlite");
  await pipeline.expectEqual();
  expect(back.log()).toContain(asksForACopy);
}, 120_000);

test("a topic is deleted before a router has read any of it: cdc copies its table anew", async () => {
  await using lab = await openFaultLab({ name: "faults_unread", engines: ["postgres", "sqlite"], schema: createDemoSchema });
  const { pipeline } = lab;
  const { brokers } = pipeline.kafka;
  const cdc = await lab.cdc();
  await cdc.ready();
  await lab.router("postgres");
  await changes(lab, 30, 300);
  await pipeline.expectEqual(undefined, ["postgres"]);
  await deleteTopic(brokers, `${pipeline.name}.public.orders`);
  await changes(lab, 31, 200);
  await pipeline.expectEqual(undefined, ["postgres"]);
  await cdc.stop();
  await deleteTopic(brokers, `${pipeline.name}.public.customers`);
  await lab.cdc();
  await lab.router("sqlite");
  await pipeline.expectEqual();
}, 120_000);

test("retention passes a router's offset", async () => {
  await using lab = await openFaultLab({ name: "faults_retention", engines: ["postgres"], schema: createDemoSchema });
  const { pipeline } = lab;
  await (await lab.cdc()).ready();
  const router = await lab.router("postgres");
  await changes(lab, 24, 200);
  await pipeline.expectEqual();
  await router.kill();
  await changes(lab, 25, 300);
  const { brokers } = pipeline.kafka;
  const published = async (): Promise<boolean> => (await topicEnd(brokers, `${pipeline.name}.public.orders`)) > 0;
  expect(await until(published, 20_000)).toBe(true);
  await emptyTopics(brokers, await tableTopics(brokers, pipeline.name));
  const back = await lab.router("postgres");
  await changes(lab, 26, 100);
  await pipeline.expectEqual();
  expect(back.log()).toContain(asksForACopy);
}, 120_000);

test.each(["are started anew", "read on"])(
  "a broker comes back with an older log than what was published and applied: cdc stops, or has all tables copied anew; routers %s",
  async (how) => {
    const readOn = how === "read on";
    await using lab = await openFaultLab({
      name: `faults_older_${readOn ? "on" : "anew"}`,
      engines: ["postgres", "sqlite"],
      schema: createDemoSchema,
    });
    const { pipeline } = lab;
    const { kafka } = pipeline;
    const cdc = await lab.cdc();
    await cdc.ready();
    const routers = await Promise.all([lab.router("postgres"), lab.router("sqlite")]);
    await changes(lab, 27, 200);
    await pipeline.expectEqual();
    const [data, older] = [join(kafka.dir, "data"), join(kafka.dir, "older")];
    await kafka.kill("SIGTERM");
    cpSync(data, older, { recursive: true });
    await kafka.start();
    await changes(lab, 28, 300);
    await pipeline.expectEqual();
    const ends = await endsOf(lab);
    // The log grows past their offsets before they see any of it.
    if (readOn) await lab.link("router - Kafka").refuse();
    else for (const router of routers) await router.kill();
    await kafka.kill();
    rmSync(data, { recursive: true });
    cpSync(older, data, { recursive: true });
    rmSync(older, { recursive: true });
    await kafka.start();
    // What Kafka says to have of its changes is behind what main-db was told to forget.
    expect((await refusal(cdc)).map(({ code }) => code)).toEqual(["SLOT_MOVED"]);
    await lab.cdc({ env: { CDC_ON_SLOT_LOST: "resnapshot" } });
    if (readOn) {
      // As many as it takes: a table that few of them are of has its share of them late.
      const load = startLoad(pipeline.mainUrl, { seed: 29, changesPerSecond: 500 });
      const grown = async (): Promise<boolean> => (await endsOf(lab)).every((end, at) => end > (ends[at] ?? 0));
      expect(await until(grown, 60_000, 200)).toBe(true);
      await load.stop();
      await lab.link("router - Kafka").heal();
    } else {
      await changes(lab, 29, 600);
      await Promise.all([lab.router("postgres"), lab.router("sqlite")]);
    }
    await pipeline.expectEqual();
  },
  120_000,
);

async function endsOf({ pipeline }: FaultLab): Promise<readonly number[]> {
  const { brokers } = pipeline.kafka;
  const topics = await tableTopics(brokers, pipeline.name);
  return await Promise.all(topics.map((topic) => topicEnd(brokers, topic)));
}
