import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import fc from "fast-check";
import { batchesOf } from "./batching.ts";
import type { SourceMessage } from "./change-source.ts";

const table = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: "s" };

const change = (ordinal: number, bytes = 10): SourceMessage => {
  const transaction = { txId: 1, commitLsn: 1n, committedAtMs: 0 };
  const event: ChangeEvent = { op: "c", table, transaction, ordinal, lsn: 0n, key: null, before: null, after: "x".repeat(bytes) };
  return { kind: "change", event };
};
const commit = (endLsn: bigint): SourceMessage => ({ kind: "commit", endLsn, committedAtMs: 0 });
const keepalive = (walEnd: bigint): SourceMessage => ({ kind: "keepalive", walEnd });
const limits = { maxRows: 2, maxBytes: 100 };
const shown = (messages: readonly SourceMessage[]) =>
  batchesOf(messages, limits).map(({ events, confirmable, transactions }) => [
    events.map(({ ordinal }) => ordinal),
    confirmable,
    transactions,
  ]);

test("a batch ends at its limits, and a transaction is confirmed with its last batch", () => {
  expect(shown([change(0), change(1), change(2), commit(9n)])).toEqual([
    [[0, 1], null, 0],
    [[2], 9n, 1],
  ]);
  expect(shown([change(0), change(1), commit(9n), change(2), change(3)])).toEqual([
    [[0, 1], 9n, 1],
    [[2, 3], null, 0],
  ]);
  expect(shown([change(0, 60), change(1, 60)])).toEqual([
    [[0], null, 0],
    [[1], null, 0],
  ]);
});

test("a row over the limit is a batch of its own", () => {
  expect(shown([change(0), change(1, 1000), change(2), commit(9n)])).toEqual([
    [[0], null, 0],
    [[1], null, 0],
    [[2], 9n, 1],
  ]);
});

test("a keepalive and an empty transaction confirm without any event", () => {
  expect(shown([keepalive(5n)])).toEqual([[[], 5n, 0]]);
  expect(shown([commit(5n), keepalive(7n)])).toEqual([[[], 7n, 1]]);
});

const AT = { commitLsn: 1n, ordinal: 0 };

type Kind =
  | { readonly kind: "change"; readonly bytes: number }
  | { readonly kind: "commit" | "keepalive" | "schema" | "changed" | "dropped" };

function messageOf(item: Kind, at: number): SourceMessage {
  switch (item.kind) {
    case "change":
      return change(at, item.bytes);
    case "commit":
      return commit(BigInt(at));
    case "keepalive":
      return keepalive(BigInt(at));
    case "schema":
    case "changed":
      return { kind: "schema", topic: "t", schema: { oid: at } as never, at: AT, change: item.kind === "changed" };
    case "dropped":
      return { kind: "dropped", schema: "public", table: "t", oid: at, at: AT };
  }
}

test("whatever comes: every event once and in order, within the limits, and nothing is confirmed before it", () => {
  const message = fc.oneof(
    { weight: 5, arbitrary: fc.nat(150).map((bytes) => ({ kind: "change", bytes }) as const) },
    fc.constantFrom<Kind>(
      { kind: "commit" },
      { kind: "keepalive" },
      { kind: "schema" },
      { kind: "changed" },
      { kind: "dropped" },
    ),
  );
  fc.assert(
    fc.property(fc.array(message, { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), (kinds, maxRows) => {
      const messages = kinds.map(messageOf);
      const batches = batchesOf(messages, { maxRows, maxBytes: 200 });
      expect(batches.flatMap(({ events }) => events.map(({ ordinal }) => ordinal))).toEqual(
        messages.flatMap((m) => (m.kind === "change" ? [m.event.ordinal] : [])),
      );
      let published = -1;
      for (const { events, schemas, confirmable } of batches) {
        expect(events.length).toBeLessThanOrEqual(maxRows);
        // Announced with or before the first event that follows it.
        for (const news of schemas) {
          const place = news.kind === "schema" ? news.schema.oid : news.oid;
          expect(place).toBeGreaterThan(published);
          // All that came before a change is in earlier batches.
          const before = messages.findLastIndex((m, at) => m.kind === "change" && at < place);
          if (news.kind === "dropped" || news.change) expect(before).toBeLessThanOrEqual(published);
        }
        published = events.at(-1)?.ordinal ?? published;
        const unpublished = messages.findIndex((m) => m.kind === "change" && m.event.ordinal > published);
        if (confirmable !== null && unpublished !== -1) expect(Number(confirmable)).toBeLessThan(unpublished);
      }
    }),
  );
});
