import { afterEach, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { spawnChild } from "@cascade/local/child.ts";
import { testKafka } from "@cascade/local/servers.ts";
import { silent } from "@cascade/shared/testing/kafka-lab";
import type { EventConsumer } from "../src/event-consumer.ts";
import { cleanUp, cleanUpAll, labOn, messageOf, openConsumer, Progress, read, see, upTo } from "./consumer-lab.ts";

afterEach(cleanUpAll);

const lab = async () => labOn((await testKafka()).brokers);
const names = ["a", "b", "c", "d"];

/** What ends the reading; whatever it gets before is changes like any others. */
async function untilRefused(consumer: EventConsumer): Promise<unknown> {
  try {
    for await (const _ of consumer.batches(new AbortController().signal)) await Bun.sleep(1);
  } catch (error) {
    return error;
  }
  return null;
}

describe("routers of one replica", () => {
  test("share its partitions, and who stays goes on from the replica's progress when the other leaves", async () => {
    const l = await lab();
    const topics = await Promise.all(names.map((name) => l.fill(name, 50)));
    const progress = new Progress();
    const one = await openConsumer(l, { progress });
    const two = await openConsumer(l, { progress });
    await see(() => one.consumer.assigned().length === 2 && two.consumer.assigned().length === 2);
    const readings = [read(one), read(two)] as const;
    await see(() => topics.every((topic) => progress.next(topic) === 50n));
    const leaver = readings[1];
    const leavers = two.consumer.assigned().map(({ topic }) => topic);
    await leaver.stop();
    await two.consumer[Symbol.asyncDispose]();
    const left = performance.now();
    await see(() => one.consumer.assigned().length === 4);
    // Far below the session timeout: it has left, it was not missed.
    expect(performance.now() - left).toBeLessThan(5_000);
    for (const topic of topics) await l.send(topic, [messageOf(50)]);
    await see(() => topics.every((topic) => progress.next(topic) === 51n));
    // Nothing was read that the replica had, whoever applied it.
    for (const topic of leavers) {
      const own = readings[0].offsets(topic);
      expect(own.at(-1)).toBe(50);
      expect([...own.filter((offset) => offset < 50), ...leaver.offsets(topic)].sort((x, y) => x - y)).toEqual(upTo(50));
    }
  });

  test("a group that serves another replica is refused by the newcomer, and goes on without it", async () => {
    const l = await lab();
    const topics = await Promise.all(names.map((name) => l.fill(name, 5)));
    const first = await openConsumer(l, { identity: { replicaId: "first", sinceMs: 1 } });
    await see(() => first.consumer.assigned().length === 4);
    const reading = read(first);
    const newcomer = await openConsumer(l, { identity: { replicaId: "second", sinceMs: 2 } });
    expect(await untilRefused(newcomer.consumer)).toMatchObject({ code: "GROUP_OF_ANOTHER_REPLICA", verdict: "refuse" });
    await newcomer.consumer[Symbol.asyncDispose]();
    await see(() => first.consumer.assigned().length === 4);
    await see(() => topics.every((topic) => first.progress.next(topic) === 5n));
    await reading.stop();
  });

  test("one that freezes is missed after its session: the other takes over, and shares again when it is back", async () => {
    const l = await lab();
    const topics = await Promise.all(names.map((name) => l.fill(name, 10)));
    let childHolds: string[] = [];
    const child = spawnChild([process.execPath, join(import.meta.dir, "consumer-child.ts"), l.brokers, l.prefix], {
      onLine: (line) => {
        childHolds = JSON.parse(line);
      },
    });
    cleanUp(() => child.killTree());
    await see(() => childHolds.length === 4);
    const opened = await openConsumer(l, { sessionTimeoutMs: 2_000 });
    const reading = read(opened);
    await see(() => childHolds.length === 2 && opened.consumer.assigned().length === 2);
    child.freeze();
    await see(() => opened.consumer.assigned().length === 4);
    await see(() => topics.every((topic) => reading.offsets(topic).length === 10));
    child.thaw();
    // What the child said last may still be what it held before.
    await see(() => {
      const held = opened.consumer.assigned().map(({ topic }) => topic);
      return held.length === 2 && [...held, ...childHolds].sort().join() === [...topics].sort().join();
    });
  });
});

describe("disposal", () => {
  const members = async (l: Awaited<ReturnType<typeof lab>>) => {
    const { groups } = await l.admin.describeGroups([`${l.prefix}.replica`]);
    return groups[0]?.members.length ?? 0;
  };

  test("is quick and leaves the group", async () => {
    const l = await lab();
    const topic = await l.fill("t", 3);
    const { consumer, ...rest } = await openConsumer(l);
    const reading = read({ consumer, ...rest });
    await see(() => reading.offsets(topic).length === 3);
    expect(await members(l)).toBe(1);
    const started = performance.now();
    await consumer[Symbol.asyncDispose]();
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(await reading.ended).toBeNull();
    expect(await members(l)).toBe(0);
    expect(consumer.assigned()).toEqual([]);
    // A second time is nothing.
    await consumer[Symbol.asyncDispose]();
  });

  test("with a batch in hand and more waiting leaves the group as quickly", async () => {
    const l = await lab();
    await l.fill("t", 2_000, { valueBytes: 1_000 });
    const limits = { maxBatchRows: 10, maxBatchBytes: 1_000_000, maxBufferedBytes: 50_000 };
    const opened = await openConsumer(l, { limits });
    const reading = read(opened, () => new Promise(() => {}));
    await see(() => reading.batches.length === 1);
    const started = performance.now();
    await opened.consumer[Symbol.asyncDispose]();
    expect(performance.now() - started).toBeLessThan(3_000);
    expect(await members(l)).toBe(0);
  });

  test("while joining leaves nobody in the group", async () => {
    const l = await lab();
    await l.fill("t", 3);
    for (let turns = 0; turns < 5; turns++) {
      const starting = Promise.withResolvers<void>();
      const debug = (_fields: object, message: string) => message === "Starting" && starting.resolve();
      const { consumer } = await openConsumer({ ...l, kafka: { ...l.kafka, logger: { ...silent, debug } } });
      await starting.promise;
      // Each time a little further into the join.
      for (let turn = 0; turn < turns; turn++) await new Promise(setImmediate);
      await consumer[Symbol.asyncDispose]();
      expect(await members(l)).toBe(0);
    }
  });
});
