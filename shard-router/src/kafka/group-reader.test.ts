import { describe, expect, test } from "bun:test";
import { SCHEMAS_FIRST_HEADER } from "@cascade/shared/change-event";
import { eventEncoder } from "@cascade/shared/event-writer";
import { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import type { Position } from "@cascade/shared/lsn";
import { Signal } from "@cascade/shared/signal";
import type { Admin, Consumer, ConsumerRunConfig, EachBatchPayload } from "kafkajs";
import { Assignment } from "./assignment.ts";
import { EventQueues } from "./event-queues.ts";
import { GroupReader } from "./group-reader.ts";

const topic = "p.public.t";

interface LabOptions {
  readonly low?: number;
  readonly high?: number;
  readonly maxBufferedBytes?: number;
  readonly applied?: Position | null;
  /** What each look at the topics finds, the last one for ever. */
  readonly listings?: readonly (readonly string[])[];
  readonly topicPollMs?: number;
  readonly settleSchemas?: () => Promise<void>;
  readonly reviewMs?: number;
  /** Where the log begins at each look. */
  readonly lowNow?: () => number;
  readonly onStart?: () => void;
}

/** A reader on a kafkajs that the test plays: it holds partition 0 of one topic, from offset 10 on, of a log from `low` to `high`. */
async function lab(options: LabOptions = {}) {
  const { low = 0, high = 1_000, maxBufferedBytes = 1_000_000, applied = null, topicPollMs = 60_000 } = options;
  const listings = [...(options.listings ?? [[topic]])];
  const subscribed: (readonly string[])[] = [];
  const errors: string[] = [];
  const failures: unknown[] = [];
  const roomMade = new Signal();
  const listeners = new Map<string, (event: { payload: object }) => void>();
  const running = Promise.withResolvers<NonNullable<ConsumerRunConfig["eachBatch"]>>();
  const consumer = {
    events: {
      GROUP_JOIN: "join",
      CRASH: "crash",
      HEARTBEAT: "heartbeat",
      FETCH: "fetch",
      FETCH_START: "fetch-start",
      REQUEST: "request",
    },
    on: (name: string, listener: (event: { payload: object }) => void) => listeners.set(name, listener),
    subscribe: async ({ topics }: { topics: readonly string[] }) => void subscribed.push(topics),
    stop: async () => {},
    run: async ({ eachBatch }: ConsumerRunConfig) => {
      listeners.get("join")?.({ payload: { memberId: "me", memberAssignment: { [topic]: [0] } } });
      if (eachBatch) running.resolve(eachBatch);
    },
    pause() {},
    resume() {},
    seek() {},
  } as unknown as Consumer;
  const admin = {
    listTopics: async () => (listings.length > 1 ? listings.shift() : listings[0]),
    fetchOffsetsOfTopics: async () => [
      { topic, partitions: [{ partition: 0, low: String(options.lowNow?.() ?? low), high: String(high) }] },
    ],
  } as unknown as Admin;
  const queues = new EventQueues({ maxBatchRows: 1_000, maxBatchBytes: 1_000_000, maxBufferedBytes });
  const located = Promise.withResolvers<void>();
  const assignment = new Assignment({
    control: { pause() {}, resume: () => located.resolve(), seek() {} },
    onReading: () => {},
    tableOf: () => ({ schema: "public", table: "t" }),
    start: async () => {
      options.onStart?.();
      return { offset: 10n, applied };
    },
    onPartitionError: (_partition, error) => errors.push(error.code),
    recheckMs: 60_000,
    onFailure: (error) => failures.push(error),
    onDropped: (key) => queues.drop(key),
  });
  const onFailure = (error: unknown) => void failures.push(error);
  const reader = new GroupReader({
    checkGroup: async () => {},
    ...{ admin, looks: new WatermarkLooks(admin), consumer, prefix: "p", matches: () => true, topicPollMs },
    ...{
      queues,
      assignment,
      roomMade,
      onArrived() {},
      onFailure,
      settleSchemas: options.settleSchemas,
      reviewMs: options.reviewMs ?? 60_000,
    },
  });
  void reader.run();
  const eachBatch = await running.promise;
  await located.promise;
  /** kafkajs delivers a fetch. */
  const deliver = async (
    offsets: readonly number[],
    overrides: Partial<EachBatchPayload> = {},
    value: number | ((offset: number) => string) = 1,
    headers: Readonly<Record<string, Buffer>> = {},
  ) => {
    const resolved: string[] = [];
    const encoded = (offset: number) => (typeof value === "number" ? Buffer.alloc(value, "x") : Buffer.from(value(offset)));
    const messages = offsets.map((offset) => ({ offset: String(offset), key: null, value: encoded(offset), headers }));
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
  return { deliver, queues, subscribed, errors, failures, roomMade, assignment, stop };
}

const queued = (queues: EventQueues) => queues.take()?.events.map(({ offset }) => Number(offset)) ?? null;

describe("a fetch", () => {
  test("a log that was deleted up to its end before it was fetched is noticed, though nothing comes of it", async () => {
    let low = 10;
    let starts = 0;
    const started = Promise.withResolvers<void>();
    await lab({
      topicPollMs: 5,
      reviewMs: 10,
      lowNow: () => low,
      onStart: () => {
        starts++;
        if (starts === 2) started.resolve();
      },
    });
    await Bun.sleep(50);
    expect(starts).toBe(1);
    low = 11;
    await started.promise;
  });

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

const encode = eventEncoder("p", "app");
/** At ten times the offset. */
const eventAt = (offset: number): string => {
  const table = { schema: "public", table: "t", topic, schemaId: "s" };
  const transaction = { txId: 1, commitLsn: BigInt(offset * 10), committedAtMs: 0 };
  return encode({ op: "c", table, transaction, ordinal: 0, lsn: 0n, key: null, before: null, after: "{}" }, 0);
};

describe("the message that was fetched last, when a connection was lost,", () => {
  const lost = async () => {
    const l = await lab();
    await l.deliver([10, 11], {}, eventAt);
    expect(queued(l.queues)).toEqual([10, 11]);
    l.assignment.doubt();
    return l;
  };

  test("is fetched again before the next, and not queued", async () => {
    const l = await lost();
    await l.deliver([11], {}, eventAt); // nothing new: and lost once more
    l.assignment.doubt();
    await l.deliver([11, 12], {}, eventAt);
    expect([queued(l.queues), l.errors]).toEqual([[12], []]);
    await l.stop();
  });

  test("may be gone, or an older one: what was published again stands before it", async () => {
    for (const [offsets, value] of [
      [[12], eventAt],
      [[11, 12], (offset: number) => eventAt(offset - 1)],
    ] as const) {
      const l = await lost();
      await l.deliver(offsets, {}, value);
      expect([queued(l.queues), l.errors]).toEqual([[12], []]);
      await l.stop();
    }
  });

  test("is a newer one: the log was shorter meanwhile, and the partition is stopped", async () => {
    const l = await lost();
    expect(await l.deliver([11, 12], {}, (offset) => eventAt(offset + 1))).toEqual([]);
    expect([queued(l.queues), l.errors]).toEqual([null, ["OFFSET_ABOVE_LOG"]]);
    await l.stop();
  });
});

describe("the message before the first, which the replica says to have applied,", () => {
  test("is fetched with it, and not queued", async () => {
    const l = await lab({ applied: { commitLsn: 90n, ordinal: 0 } });
    expect(await l.deliver([9, 10, 11], { isStale: () => true }, eventAt)).toEqual([]);
    expect(await l.deliver([9, 10, 11], {}, eventAt)).toEqual(["11"]);
    expect(await l.deliver([12], {}, eventAt)).toEqual(["12"]);
    expect(queued(l.queues)).toEqual([10, 11, 12]);
    expect(l.errors).toEqual([]);
    await l.stop();
  });

  test("may be one that was applied long before, gone, or no event", async () => {
    for (const [offsets, value] of [
      [[9, 10], eventAt],
      [[10], eventAt],
      [[9, 10], () => "no event"],
    ] as const) {
      const l = await lab({ applied: { commitLsn: 500n, ordinal: 0 } });
      await l.deliver(offsets, {}, value);
      expect([queued(l.queues), l.errors]).toEqual([[10], []]);
      await l.stop();
    }
  });

  test("is after what it has applied in a log made anew, and stops the partition", async () => {
    const l = await lab({ applied: { commitLsn: 89n, ordinal: 7 } });
    expect(await l.deliver([9, 10], {}, eventAt)).toEqual([]);
    expect([queued(l.queues), l.errors]).toEqual([null, ["OFFSET_ABOVE_LOG"]]);
    await l.stop();
  });

  test("cannot be the first of a log that was shorter for a while", async () => {
    const l = await lab({ applied: { commitLsn: 90n, ordinal: 0 } });
    expect(await l.deliver([0, 1], {}, eventAt)).toEqual([]);
    expect([queued(l.queues), l.errors]).toEqual([null, ["OFFSET_ABOVE_LOG"]]);
    await l.stop();
  });
});

test("messages that ask for it are queued once the schemas are read, and others at once", async () => {
  const settled = Promise.withResolvers<void>();
  const l = await lab({ settleSchemas: () => settled.promise });
  await l.deliver([10, 11]);
  expect(queued(l.queues)).toEqual([10, 11]);
  const delivered = l.deliver([12, 13], {}, 1, { [SCHEMAS_FIRST_HEADER]: Buffer.from("1") });
  await Bun.sleep(20);
  expect(queued(l.queues)).toBeNull();
  settled.resolve();
  expect(await delivered).toEqual(["13"]);
  expect(queued(l.queues)).toEqual([12, 13]);
  await l.stop();
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

test("topics that are made one after the other are joined together, once a look finds no further ones", async () => {
  const [a, b, c] = ["p.public.a", "p.public.b", "p.public.c"];
  const growing = [[topic], [topic, a], [topic, a, b], [topic, a, b, c], [topic, a, b, c]];
  const l = await lab({ listings: growing, topicPollMs: 5 });
  while (l.subscribed.length < 2) await Bun.sleep(5);
  expect(l.subscribed).toEqual([[topic], [a, b, c]]);
  expect(l.failures).toEqual([]);
  await l.stop();
});
