import { afterEach, expect, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import { CascadeError } from "@cascade/shared/errors";
import { eventEncoder } from "@cascade/shared/event-writer";
import { kafkaOptions } from "@cascade/shared/testing/kafka-lab";
import type { Message } from "kafkajs";
import { openSchemaTopic } from "../src/kafka/schema-topic.ts";
import { cleanUpAll, labOn, limits, messageOf, openConsumer, Progress, read, see, upTo } from "./consumer-lab.ts";

afterEach(cleanUpAll);

test("a topic deleted while it is read: rejects with retry, and a fresh consumer goes on with the others", async () => {
  const l = await labOn((await testKafka()).brokers);
  const [doomed, other] = await Promise.all([l.fill("doomed", 3), l.fill("other", 3)]);
  const opened = await openConsumer(l);
  const reading = read(opened);
  await see(() => reading.offsets(doomed).length === 3 && reading.offsets(other).length === 3);
  await l.admin.deleteTopics({ topics: [doomed] });
  expect(await reading.ended).toMatchObject({ code: "KAFKA_UNKNOWN_TOPIC", verdict: "retry" });
  await opened.consumer[Symbol.asyncDispose]();
  await l.send(other, [messageOf(3)]);
  const fresh = read(await openConsumer(l, { progress: opened.progress }));
  await see(() => fresh.offsets(other).length === 1);
  expect(fresh.offsets(other)).toEqual([3]);
});

test("a compression that cannot be read: refuses, with the way out", async () => {
  const l = await labOn((await testKafka()).brokers);
  await l.createTopic(l.topic("t"), { settings: { "compression.type": "snappy" } });
  await l.send(l.topic("t"), [messageOf(0)]);
  expect(await read(await openConsumer(l)).ended).toMatchObject({ code: "KAFKA_UNSUPPORTED", verdict: "refuse" });
});

test("no broker at the start: consumer and schema topic reject with retry", async () => {
  const nowhere = { kafka: kafkaOptions("127.0.0.1:1"), prefix: "nowhere" };
  const opening = [openConsumer(nowhere), openSchemaTopic({ ...nowhere, groupId: "nowhere.replica" })];
  for (const result of await Promise.allSettled(opening)) {
    expect(result).toMatchObject({ status: "rejected", reason: { code: "KAFKA_UNAVAILABLE", verdict: "retry" } });
  }
});

test("a broker killed while it is read: goes on, or rejects with retry, and nothing is missed", async () => {
  const server = await testKafka();
  const l = await labOn(server.brokers);
  const topic = await l.fill("t", 5_000, { valueBytes: 100 });
  const progress = new Progress();
  const options = { progress, sessionTimeoutMs: 2_000, limits: { ...limits, maxBatchRows: 100, maxBufferedBytes: 100_000 } };
  const seen: number[] = [];
  const { promise: restarted, resolve } = Promise.withResolvers<void>();
  let opened = await openConsumer(l, options);
  /** The service's loop: fresh ports after every error that heals. */
  const reading = (async () => {
    while (progress.next(topic) < 5_000n) {
      const current = read(opened, async (batch) => {
        seen.push(...batch.events.map(({ offset }) => Number(offset)));
        if (seen.length >= 1_000) await restarted;
        progress.set(topic, batch.nextOffset);
      });
      const done = see(() => progress.next(topic) === 5_000n, 50_000).then(() => current.stop());
      const error = await Promise.race([current.ended, done]);
      if (error === null) return;
      if (!(error instanceof CascadeError) || error.verdict !== "retry") throw error;
      await opened.consumer[Symbol.asyncDispose]();
      opened = await openConsumer(l, options);
    }
  })();
  await see(() => seen.length >= 1_000);
  await server.kill("SIGKILL");
  await server.start();
  resolve();
  await reading;
  // What was in hand at a failure may come twice: it was not applied.
  expect([...new Set(seen)]).toEqual(upTo(5_000));
  expect(opened.errors).toEqual([]);
});

test("a broker that hangs: rejects with retry in time, closes quickly, and a fresh consumer goes on", async () => {
  const server = await testKafka();
  const l = await labOn(server.brokers);
  const topic = await l.fill("t", 3);
  const opened = await openConsumer(l, { silenceMs: 1_500, sessionTimeoutMs: 2_000 });
  const reading = read(opened);
  await see(() => reading.offsets(topic).length === 3);
  server.freeze();
  try {
    const frozen = performance.now();
    expect(await reading.ended).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry" });
    await opened.consumer[Symbol.asyncDispose]();
    expect(performance.now() - frozen).toBeLessThan(5_000);
  } finally {
    server.thaw();
  }
  await l.send(topic, [messageOf(3)]);
  // A broker that wakes up may not serve its groups for a while: as in a service, whoever meets that begins again.
  for (;;) {
    const next = await openConsumer(l, { progress: opened.progress, sessionTimeoutMs: 2_000, silenceMs: 10_000 });
    const fresh = read(next);
    const done = until(() => fresh.offsets(topic).length > 0, 40_000);
    const outcome = await Promise.race([done, fresh.ended]);
    if (outcome === true) {
      expect(fresh.offsets(topic)).toEqual([3]);
      break;
    }
    expect(outcome).toMatchObject({ verdict: "retry" });
    await next.consumer[Symbol.asyncDispose]();
  }
});

/** Changes that commit one after the other, from `first` on. */
function changesOf(topic: string, first: number, count: number): Message[] {
  const encode = eventEncoder("cascade", "app");
  const table = { schema: "public", table: "t", topic, schemaId: "s" };
  return Array.from({ length: count }, (_, at) => {
    const transaction = { txId: first + at, commitLsn: BigInt(first + at), committedAtMs: 0 };
    const change = { op: "c", table, transaction, ordinal: 0, lsn: 1n, key: null, before: null, after: "{}" } as const;
    return { key: "k", value: encode(change, 0), partition: 0 };
  });
}

test.each([
  ["while it is read", 0],
  ["while nothing of it is fetched, for there is no room", 3_000],
] as const)(
  "a topic deleted, made anew, and grown past what was read, %s: its table is copied",
  async (_, pausedMs) => {
    const l = await labOn((await testKafka()).brokers);
    const topic = l.topic("t");
    const make = async () => {
      await l.createTopic(topic);
    };
    await make();
    await l.send(topic, changesOf(topic, 1, 20));
    const recovered: bigint[] = [];
    const applied = { commitLsn: 20n, ordinal: 0, nextOffset: 20n, sourceCommittedAtMs: 0 };
    const opened = await openConsumer(l, {
      limits: { ...limits, maxBufferedBytes: pausedMs === 0 ? limits.maxBufferedBytes : 1 },
      applied: () => applied,
      recover: async (_partition, _table, { low }) => {
        recovered.push(low);
        return low;
      },
    });
    const room = Promise.withResolvers<void>();
    const reading = read(opened, async ({ partition, nextOffset }) => {
      if (pausedMs > 0 && nextOffset === 20n) await room.promise;
      opened.progress.set(partition.topic, nextOffset);
    });
    await see(() => reading.offsets(topic).length === 20);
    if (pausedMs > 0) await l.send(topic, changesOf(topic, 21, 1)); // fetched, and waits for room
    await Bun.sleep(300);
    await l.admin.deleteTopics({ topics: [topic] });
    while ((await l.admin.listTopics()).includes(topic)) await Bun.sleep(1);
    await make();
    await l.send(topic, changesOf(topic, 30, 40)); // 21 to 29 are lost, and ten of these stand where the old ones did
    await Bun.sleep(pausedMs);
    room.resolve();
    await see(() => recovered.length > 0);
    expect(recovered).toEqual([0n]);
  },
  30_000,
);
