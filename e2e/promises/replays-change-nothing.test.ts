import { expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { moreChanges, startLoad } from "../load.ts";
import { openPipeline, type Pipeline } from "../pipeline.ts";
import { distinctPositions, duplicateTopic, readTopic, setGroupOffsets, tableTopics, topicEnd } from "../topics.ts";

/** P2: replays change nothing. The audit table has no key: a row applied twice would be there twice. */

const seed = 7;
const engines = ["postgres", "sqlite"] as const;

async function repeated({ kafka, name }: Pipeline): Promise<number> {
  const topics = await tableTopics(kafka.brokers, name);
  const counts = await Promise.all(
    topics.map(async (topic) => {
      const messages = await readTopic(kafka.brokers, topic);
      return messages.length - distinctPositions(messages);
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

test("the slot tells everything again", async () => {
  await using pipeline = await openPipeline({ name: "p2_slot", schema: createDemoSchema });
  const cdc = await pipeline.cdc();
  await cdc.ready();
  await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 500 });
  await moreChanges(load, 300);
  await cdc.kill();
  // A slot that stays behind is one whose confirmations were lost.
  await pipeline.sql("SELECT pg_copy_logical_replication_slot($1, 'p2_behind')", [pipeline.name]);
  const next = await pipeline.cdc();
  await next.ready();
  await moreChanges(load, 1_000);
  await load.stop();
  await pipeline.expectEqual();
  await next.stop();
  const before = await repeated(pipeline);
  const behind = await pipeline.cdc({ slot: "p2_behind" });
  await behind.ready();
  await pipeline.sql("INSERT INTO audit (action) VALUES ('after the replay')");
  await pipeline.expectEqual();
  expect((await repeated(pipeline)) - before).toBeGreaterThan(900);
});

test("every topic is published again behind itself, while changes go on", async () => {
  await using pipeline = await openPipeline({ name: "p2_topic", schema: createDemoSchema });
  const { kafka, name } = pipeline;
  const cdc = await pipeline.cdc();
  await cdc.ready();
  await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 500 });
  await moreChanges(load, 1_000);
  // A topic is there before its first row.
  let copies = 0;
  for (const topic of await tableTopics(kafka.brokers, name)) copies += await duplicateTopic(kafka.brokers, topic);
  expect(copies).toBeGreaterThan(900);
  await moreChanges(load, 300);
  await load.stop();
  await pipeline.expectEqual();
  expect(await repeated(pipeline)).toBeGreaterThan(900);
});

test("a group's offsets in Kafka are of no account: neither the beginning nor the end", async () => {
  await using pipeline = await openPipeline({ name: "p2_offsets", schema: createDemoSchema });
  const { kafka, name } = pipeline;
  const cdc = await pipeline.cdc();
  await cdc.ready();
  let routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  const load = startLoad(pipeline.mainUrl, { seed, changesPerSecond: 500 });
  for (const offset of ["beginning", "end"] as const) {
    await moreChanges(load, 400);
    await Promise.all(routers.map((router) => router.stop()));
    await moreChanges(load, 300);
    const offsets = new Map<string, number>();
    for (const topic of await tableTopics(kafka.brokers, name))
      offsets.set(topic, offset === "end" ? await topicEnd(kafka.brokers, topic) : 0);
    await Promise.all(engines.map((engine) => setGroupOffsets(kafka.brokers, `${name}.${engine}`, offsets)));
    routers = await Promise.all([pipeline.router("postgres"), pipeline.router("sqlite")]);
  }
  await load.stop();
  await pipeline.expectEqual();
});
