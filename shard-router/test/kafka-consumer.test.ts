import { afterEach, describe, expect, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import { CompressionTypes } from "kafkajs";
import type { EventBatch, RawEvent } from "../src/event-consumer.ts";
import { cleanUpAll, labOn, limits, messageOf, openConsumer, Progress, read, see, upTo } from "./consumer-lab.ts";

afterEach(cleanUpAll);

const lab = async () => labOn((await testKafka()).brokers);

describe("batches", () => {
  test("are of one partition each, in offset order, bounded by rows and by bytes", async () => {
    const l = await lab();
    const a = await l.fill("a", 500, { partitions: 2, valueBytes: 100 });
    const b = await l.fill("b", 300, { valueBytes: 300 });
    const opened = await openConsumer(l, { limits: { ...limits, maxBatchRows: 70, maxBatchBytes: 9_000 } });
    const reading = read(opened);
    await see(() => reading.offsets(a, 0).length + reading.offsets(a, 1).length + reading.offsets(b).length >= 1_300);
    for (const partition of [0, 1]) expect(reading.offsets(a, partition)).toEqual(upTo(500));
    expect(reading.offsets(b)).toEqual(upTo(300));
    for (const { events, bytes, nextOffset } of reading.batches) {
      expect(events.length).toBeLessThanOrEqual(70);
      expect(bytes).toBeLessThanOrEqual(9_000);
      expect(bytes).toBe(events.reduce((sum, { value }) => sum + (value?.length ?? 0), 0));
      expect(nextOffset).toBe((events.at(-1)?.offset ?? 0n) + 1n);
    }
    expect(reading.batches.some(({ events }) => events.length === 70)).toBe(true);
    expect(opened.errors).toEqual([]);
  });

  test("carry what was published: table, key, value, tombstones, traces and the lag", async () => {
    const l = await lab();
    const topic = await l.fill("t_x2Ex", 0);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await l.send(topic, [
      { key: '{"id":"é"}', value: '{"t":"€😀"}', headers: { traceparent } },
      { key: null, value: "v", headers: { traceparent } },
      { key: "k", value: null },
    ]);
    const reading = read(await openConsumer(l, { limits: { ...limits, maxBatchRows: 2 } }));
    await see(() => reading.offsets(topic).length === 3);
    // Texts are cut out of the fetch when they are asked for.
    const told = ({ offset, key, value, traceParent }: RawEvent) => ({ offset, key, value, traceParent });
    const [first, second] = reading.batches.map((batch) => ({ ...batch, events: batch.events.map(told) }));
    expect(first).toEqual({
      partition: { topic, partition: 0 },
      table: { schema: "public", table: "t.x" },
      events: [
        { offset: 0n, key: '{"id":"é"}', value: '{"t":"€😀"}', traceParent: traceparent },
        { offset: 1n, key: null, value: "v", traceParent: traceparent },
      ],
      nextOffset: 2n,
      bytes: Buffer.byteLength('{"t":"€😀"}v'),
      lagEvents: 1n,
      traceParents: [traceparent],
    });
    expect(second).toMatchObject({
      events: [{ offset: 2n, key: "k", value: null, traceParent: null }],
      nextOffset: 3n,
      lagEvents: 0n,
    });
  });

  test.each([
    ["gzip", CompressionTypes.GZIP],
    ["zstd", CompressionTypes.ZSTD],
  ] as const)("are read from %s", async (_name, compression) => {
    const l = await lab();
    const topic = await l.fill("t", 250, { compression });
    const reading = read(await openConsumer(l));
    await see(() => reading.offsets(topic).length >= 250);
    expect(reading.batches.flatMap(({ events }) => events.map(({ value }) => Number(value)))).toEqual(upTo(250));
  });

  test("are of the tables asked for only", async () => {
    const l = await lab();
    const [wanted] = await Promise.all([l.fill("wanted", 3), l.fill("other", 3)]);
    const opened = await openConsumer(l, { matches: ({ table }) => table === "wanted" });
    const reading = read(opened);
    await see(() => reading.offsets(wanted).length === 3);
    expect(opened.consumer.assigned()).toEqual([{ topic: wanted, partition: 0, highWatermark: 3n }]);
  });

  test("of a topic made while running come too", async () => {
    const l = await lab();
    const first = await l.fill("first", 3);
    const reading = read(await openConsumer(l));
    await see(() => reading.offsets(first).length === 3);
    const second = await l.fill("second", 3);
    await see(() => reading.offsets(second).length === 3);
    await l.send(first, [messageOf(3)]);
    await see(() => reading.offsets(first).length === 4);
    expect(reading.offsets(first)).toEqual(upTo(4));
    expect(reading.offsets(second)).toEqual(upTo(3));
  });

  test("leave timers their turns, also when the replica blocks the thread", async () => {
    const l = await lab();
    const topic = await l.fill("t", 300);
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 1);
    const opened = await openConsumer(l, { limits: { ...limits, maxBatchRows: 1 } });
    const seenAtBatch: number[] = [];
    const reading = read(opened, () => {
      Bun.sleepSync(2);
      seenAtBatch.push(ticks);
    });
    await see(() => reading.offsets(topic).length === 300);
    clearInterval(ticking);
    expect(new Set(seenAtBatch).size).toBeGreaterThan(200);
  });

  test("end at an abort, also when there is nothing to read", async () => {
    const l = await lab();
    const opened = await openConsumer(l);
    expect(await read(opened).stop()).toBeNull();
    const topic = await l.fill("t", 3);
    const reading = read(opened);
    await see(() => reading.offsets(topic).length === 3);
    expect(await reading.stop()).toBeNull();
    await l.send(topic, [messageOf(3)]);
    const again = read(opened);
    await see(() => again.offsets(topic).length === 1);
    expect(again.offsets(topic)).toEqual([3]);
  });
});

describe("where reading begins", () => {
  test("is what the replica says, whatever was confirmed to Kafka", async () => {
    const l = await lab();
    const topics = await Promise.all([l.fill("fresh", 20), l.fill("known", 20)]);
    const [fresh, known] = topics;
    const { consumer } = await openConsumer(l);
    await see(() => consumer.assigned().length === 2);
    for (const topic of topics) consumer.confirm({ topic, partition: 0 }, 7n);
    await consumer[Symbol.asyncDispose]();
    const committed = await l.admin.fetchOffsets({ groupId: `${l.prefix}.replica`, topics });
    expect(committed.flatMap(({ partitions }) => partitions.map(({ offset }) => offset))).toEqual(["7", "7"]);
    const progress = new Progress();
    progress.set(known, 3n);
    const reading = read(await openConsumer(l, { progress }));
    await see(() => reading.offsets(fresh).length >= 20 && reading.offsets(known).length >= 17);
    expect(reading.offsets(fresh)).toEqual(upTo(20));
    expect(reading.offsets(known)).toEqual(upTo(20, 3));
  });

  test("below what Kafka holds: that partition stops, the others go on, and it goes on when the replica does", async () => {
    const l = await lab();
    const [gone, fine] = await Promise.all([l.fill("gone", 20), l.fill("fine", 20)]);
    await l.deleteBefore(gone, 5);
    const opened = await openConsumer(l);
    const reading = read(opened);
    await see(() => reading.offsets(fine).length === 20 && opened.errors.length >= 2);
    expect(new Set(opened.errors)).toEqual(new Set([`${gone} OFFSET_BELOW_RETENTION`]));
    expect(reading.offsets(gone)).toEqual([]);
    opened.progress.set(gone, 5n);
    await see(() => reading.offsets(gone).length === 15);
    expect(reading.offsets(gone)).toEqual(upTo(20, 5));
  });

  test("above the log's end: that partition stops until the replica's progress is moved, though the log grows past it", async () => {
    const l = await lab();
    const [lost, fine] = await Promise.all([l.fill("lost", 20), l.fill("fine", 20)]);
    const progress = new Progress();
    progress.set(lost, 100n);
    const opened = await openConsumer(l, { progress });
    const reading = read(opened);
    await see(() => reading.offsets(fine).length === 20 && opened.errors.length >= 1);
    await l.send(
      lost,
      upTo(120, 20).map((id) => messageOf(id)),
    );
    const before = opened.errors.length;
    await see(() => opened.errors.length >= before + 2);
    expect(new Set(opened.errors)).toEqual(new Set([`${lost} OFFSET_ABOVE_LOG`]));
    expect(reading.offsets(lost)).toEqual([]);
    progress.set(lost, 20n);
    await see(() => reading.offsets(lost).length === 100);
    expect(reading.offsets(lost)).toEqual(upTo(120, 20));
  });

  test("not pulling bounds what is read ahead, and what is deleted meanwhile is missed loudly", async () => {
    const l = await lab();
    const topic = await l.fill("t", 4_000, { valueBytes: 1_000 });
    const opened = await openConsumer(l, { limits: { maxBatchRows: 100, maxBatchBytes: 1_000_000, maxBufferedBytes: 50_000 } });
    const { promise: deleted, resolve } = Promise.withResolvers<void>();
    const reading = read(opened, async (batch: EventBatch) => {
      await deleted;
      opened.progress.set(topic, batch.nextOffset);
    });
    await see(() => reading.batches.length === 1);
    await l.deleteBefore(topic, 3_990);
    resolve();
    await see(() => opened.errors.length > 0);
    expect(opened.errors[0]).toBe(`${topic} OFFSET_BELOW_RETENTION`);
    const offsets = reading.offsets(topic);
    expect(offsets).toEqual(upTo(offsets.length));
    // One fetch of a partition (1 MiB) in the queue, and one waiting for room.
    expect(offsets.length).toBeLessThan(2_200);
  });
});

describe("holding a partition", () => {
  test("delivers it again from the replica's progress after the delay, while the others go on", async () => {
    const l = await lab();
    const [held, other] = await Promise.all([l.fill("held", 10), l.fill("other", 1)]);
    const opened = await openConsumer(l);
    const { consumer, progress } = opened;
    const delayMs = 400;
    let heldAtMs = 0;
    let againAtMs = 0;
    const reading = read(opened, async ({ partition, nextOffset }) => {
      if (partition.topic !== held) return;
      if (heldAtMs === 0) {
        heldAtMs = performance.now();
        progress.set(held, 4n);
        consumer.hold(partition, delayMs);
        await l.send(other, [messageOf(1)]);
      } else {
        againAtMs ||= performance.now();
        progress.set(held, nextOffset);
      }
    });
    await see(() => reading.offsets(held).length >= 16);
    expect(reading.offsets(held)).toEqual([...upTo(10), ...upTo(10, 4)]);
    expect(againAtMs - heldAtMs).toBeGreaterThanOrEqual(delayMs - 5);
    const order = reading.batches.map(({ partition }) => partition.topic);
    expect(order.lastIndexOf(other)).toBeLessThan(order.lastIndexOf(held));
    expect(reading.offsets(other)).toEqual([0, 1]);
  });
});
