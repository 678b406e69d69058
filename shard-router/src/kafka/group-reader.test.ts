import { describe, expect, test } from "bun:test";
import { Signal } from "@cascade/shared/signal";
import type { Admin, Consumer, ConsumerRunConfig, EachBatchPayload } from "kafkajs";
import { Assignment } from "./assignment.ts";
import { EventQueues } from "./event-queues.ts";
import { GroupReader } from "./group-reader.ts";

const topic = "p.public.t";

/** A reader on a kafkajs that the test plays: it holds partition 0 of one topic, from offset 10 on, of a log from `low` to `high`. */
async function lab({ low = 0, high = 1_000, maxBufferedBytes = 1_000_000 } = {}) {
  const errors: string[] = [];
  const failures: unknown[] = [];
  const roomMade = new Signal();
  const listeners = new Map<string, (event: { payload: object }) => void>();
  const running = Promise.withResolvers<NonNullable<ConsumerRunConfig["eachBatch"]>>();
  const consumer = {
    events: { GROUP_JOIN: "join", CRASH: "crash", HEARTBEAT: "heartbeat", FETCH: "fetch" },
    on: (name: string, listener: (event: { payload: object }) => void) => listeners.set(name, listener),
    subscribe: async () => {},
    run: async ({ eachBatch }: ConsumerRunConfig) => {
      listeners.get("join")?.({ payload: { memberId: "me", memberAssignment: { [topic]: [0] } } });
      if (eachBatch) running.resolve(eachBatch);
    },
    pause() {},
    resume() {},
    seek() {},
  } as unknown as Consumer;
  const admin = {
    listTopics: async () => [topic],
    fetchTopicOffsets: async () => [{ partition: 0, offset: "0", low: String(low), high: String(high) }],
  } as unknown as Admin;
  const queues = new EventQueues({ maxBatchRows: 1_000, maxBatchBytes: 1_000_000, maxBufferedBytes });
  const located = Promise.withResolvers<void>();
  const assignment = new Assignment({
    control: { pause() {}, resume: () => located.resolve(), seek() {} },
    onReading: () => {},
    tableOf: () => ({ schema: "public", table: "t" }),
    startOffset: async () => 10n,
    onPartitionError: (_partition, error) => errors.push(error.code),
    recheckMs: 60_000,
    onFailure: (error) => failures.push(error),
    onDropped: (key) => queues.drop(key),
  });
  const onFailure = (error: unknown) => void failures.push(error);
  const reader = new GroupReader({
    checkGroup: async () => {},
    ...{ admin, consumer, prefix: "p", matches: () => true, topicPollMs: 60_000 },
    ...{ queues, assignment, roomMade, onArrived() {}, onFailure },
  });
  void reader.run();
  const eachBatch = await running.promise;
  await located.promise;
  /** kafkajs delivers a fetch. */
  const deliver = async (offsets: readonly number[], overrides: Partial<EachBatchPayload> = {}, valueBytes = 1) => {
    const resolved: string[] = [];
    const messages = offsets.map((offset) => ({ offset: String(offset), key: null, value: Buffer.alloc(valueBytes, "x") }));
    const batch = {
      ...{ topic, partition: 0, messages, highWatermark: "1000" },
      firstOffset: () => messages[0]?.offset ?? null,
      lastOffset: () => messages.at(-1)?.offset ?? "0",
    };
    const payload = {
      batch,
      resolveOffset: (offset: string) => resolved.push(offset),
      heartbeat: async () => {},
      isRunning: () => true,
      isStale: () => false,
      ...overrides,
    } as unknown as EachBatchPayload;
    await eachBatch(payload);
    return resolved;
  };
  const stop = async () => {
    await reader.stop();
    assignment.clear();
  };
  return { deliver, queues, errors, failures, roomMade, assignment, stop };
}

const queued = (queues: EventQueues) => queues.take()?.events.map(({ offset }) => Number(offset)) ?? null;

describe("a fetch", () => {
  test("is queued, and resolved at its last offset", async () => {
    const l = await lab();
    expect(await l.deliver([10, 11, 12])).toEqual(["12"]);
    expect(queued(l.queues)).toEqual([10, 11, 12]);
    expect(l.assignment.get(`${topic}/0`)?.nextOffset).toBe(13n);
    await l.stop();
  });

  test("after a gap that compaction left is queued", async () => {
    const l = await lab();
    await l.deliver([15, 17]);
    expect(queued(l.queues)).toEqual([15, 17]);
    expect(l.errors).toEqual([]);
    await l.stop();
  });

  test("after a gap that retention left stops the partition", async () => {
    const l = await lab({ low: 15 });
    expect(await l.deliver([15, 16])).toEqual([]);
    expect([queued(l.queues), l.errors]).toEqual([null, ["OFFSET_BELOW_RETENTION"]]);
    await l.stop();
  });

  test("from before the offset asked for stops the partition: the log was shorter for a while, though it no longer is", async () => {
    const l = await lab();
    expect(await l.deliver([0, 1, 2, 11])).toEqual([]);
    expect([queued(l.queues), l.errors]).toEqual([null, ["OFFSET_ABOVE_LOG"]]);
    await l.stop();
  });

  test.each([
    ["a seek", { isStale: () => true }],
    ["the end", { isRunning: () => false }],
  ])("that comes after %s is dropped", async (_what, overrides) => {
    const l = await lab();
    expect(await l.deliver([10], overrides)).toEqual([]);
    expect(queued(l.queues)).toBeNull();
    await l.stop();
  });

  test("of a partition that is held is dropped", async () => {
    const l = await lab();
    const assigned = l.assignment.get(`${topic}/0`);
    if (assigned) l.assignment.hold(assigned, 60_000);
    expect(await l.deliver([10])).toEqual([]);
    expect(queued(l.queues)).toBeNull();
    await l.stop();
  });
});

describe("with the queues full", () => {
  test("a fetch waits for room, and the member stays in its group", async () => {
    const l = await lab({ maxBufferedBytes: 1_000 });
    await l.deliver([10], {}, 2_000);
    const beaten = Promise.withResolvers<void>();
    let beats = 0;
    const heartbeat = async () => {
      if (++beats === 2) beaten.resolve();
    };
    const delivered = l.deliver([11], { heartbeat });
    await beaten.promise;
    expect(l.assignment.get(`${topic}/0`)?.nextOffset).toBe(11n);
    expect(queued(l.queues)).toEqual([10]);
    l.roomMade.notify();
    expect(await delivered).toEqual(["11"]);
    expect(queued(l.queues)).toEqual([11]);
    await l.stop();
  });

  test("a rebalance ends the waiting", async () => {
    const l = await lab({ maxBufferedBytes: 1_000 });
    await l.deliver([10], {}, 2_000);
    const rebalance = new Error("The group is rebalancing");
    const delivered = l.deliver([11], { heartbeat: () => Promise.reject(rebalance) });
    await expect(delivered).rejects.toBe(rebalance);
    await l.stop();
  });

  test("what is dropped meanwhile is not queued", async () => {
    const l = await lab({ maxBufferedBytes: 1_000 });
    await l.deliver([10], {}, 2_000);
    const delivered = l.deliver([11]);
    const assigned = l.assignment.get(`${topic}/0`);
    if (assigned) l.assignment.hold(assigned, 60_000);
    l.roomMade.notify();
    expect(await delivered).toEqual([]);
    expect(l.queues.bufferedBytes).toBe(0);
    await l.stop();
  });
});
