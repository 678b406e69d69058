import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { SourceHeartbeat, SourceMessage } from "./change-source.ts";
import type { Announcement } from "./event-publisher.ts";
import { pump } from "./pipeline.ts";

/** Faults at the ports: what is confirmed must be durable, whatever fails and whenever. */

const table = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: "s" };
const events = (commitLsn: bigint, rows: number): SourceMessage[] =>
  Array.from({ length: rows }, (_, ordinal) => {
    const transaction = { txId: 1, commitLsn, committedAtMs: 0 };
    const event: ChangeEvent = { op: "c", table, transaction, ordinal, lsn: 0n, key: null, before: null, after: "{}" };
    return { kind: "change", event };
  });
const transaction = (commitLsn: bigint, rows: number): SourceMessage[] => [
  ...events(commitLsn, rows),
  { kind: "commit", endLsn: commitLsn + 1n, committedAtMs: 0 },
];

/** Delivers, and remembers what was said to be forgotten. */
function fakeSource(deliveries: readonly (readonly SourceMessage[])[]) {
  const confirmed: Lsn[] = [];
  return {
    confirmed,
    async *messages(signal: AbortSignal) {
      for (const delivery of deliveries) {
        if (signal.aborted) return;
        yield delivery;
      }
    },
    confirm: (through: Lsn) => void confirmed.push(through),
    [Symbol.asyncDispose]: async () => {},
  };
}

function fakePublisher(onPublish: (events: readonly ChangeEvent[], call: number) => void = () => {}) {
  const calls: string[] = [];
  let count = 0;
  return {
    calls,
    check: async () => {},
    recall: () => {},
    hasPublished: async () => false,
    heartbeat: async ({ commitLsn }: SourceHeartbeat) => void calls.push(`heartbeat ${commitLsn}`),
    announce: async (schemas: readonly Announcement[]) =>
      void calls.push(`announce ${schemas.map((news) => (news.kind === "schema" ? news.schema.id : news.oid))}`),
    publish: async (published: readonly ChangeEvent[]) => {
      onPublish(published, count++);
      calls.push(`publish ${published.map(({ transaction: { commitLsn }, ordinal }) => `${commitLsn}/${ordinal}`)}`);
      return 0;
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

const limits = { maxRows: 2, maxBytes: 1000 };
const never = new AbortController().signal;

test("schemas are announced before their rows, transactions confirmed after their last batch", async () => {
  const schema = { kind: "schema", topic: "t", schema: { id: "s" } } as unknown as SourceMessage;
  const source = fakeSource([[schema, ...transaction(10n, 3)], [{ kind: "keepalive", walEnd: 20n }]]);
  const publisher = fakePublisher();
  await pump(source, publisher, limits, () => {}, never);
  expect(publisher.calls).toEqual(["announce s", "publish 10/0,10/1", "publish 10/2"]);
  expect(source.confirmed).toEqual([11n, 20n]);
});

test("a batch that fails, written or not, is not confirmed, nor anything after it", async () => {
  for (const failing of [0, 1, 2]) {
    const source = fakeSource([[...transaction(10n, 2), ...transaction(20n, 4)], [{ kind: "keepalive", walEnd: 90n }]]);
    const publisher = fakePublisher((_, call) => {
      if (call === failing) throw new Error("the broker went away");
    });
    await expect(pump(source, publisher, limits, () => {}, never)).rejects.toThrow("the broker went away");
    expect(source.confirmed).toEqual(failing === 0 ? [] : [11n]);
  }
});

test("a schema that cannot be announced stops its rows", async () => {
  const schema = { kind: "schema", topic: "t", schema: { id: "s" } } as unknown as SourceMessage;
  const source = fakeSource([[schema, ...transaction(10n, 1)]]);
  const publisher = { ...fakePublisher(), announce: () => Promise.reject(new Error("no")) };
  await expect(pump(source, publisher, limits, () => {}, never)).rejects.toThrow("no");
  expect(publisher.calls).toEqual([]);
  expect(source.confirmed).toEqual([]);
});

test("asked to stop in the middle of a large transaction it finishes the batch in hand, and confirms nothing of the transaction", async () => {
  const stop = new AbortController();
  const source = fakeSource([[...transaction(10n, 2), ...transaction(20n, 1000)], transaction(30n, 1)]);
  const publisher = fakePublisher((_, call) => {
    if (call === 1) stop.abort();
  });
  await pump(source, publisher, limits, () => {}, stop.signal);
  expect(publisher.calls).toEqual(["publish 10/0,10/1", "publish 20/0,20/1"]);
  expect(source.confirmed).toEqual([11n]);
});
