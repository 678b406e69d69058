import { expect, test } from "bun:test";
import { CascadeError } from "@cascade/shared/errors";
import type { Reading, Telemetry } from "@cascade/shared/telemetry";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { ApplyStatus } from "./apply-status.ts";
import type { EventBatch } from "./event-consumer.ts";
import { atOffset } from "./poison.ts";
import type { Step } from "./turn.ts";

const a = { topic: "cascade.public.a", partition: 0 };
const b = { topic: "cascade.public.b", partition: 0 };

function status() {
  const gauges = new Map<string, () => readonly Reading[]>();
  const telemetry = {
    observe: (name: string, read: () => readonly Reading[]) => void gauges.set(name, read),
  } as unknown as Telemetry;
  const made = new ApplyStatus("cascade", "r", telemetry);
  made.follow(() => [a, b]);
  return { made, gauge: (name: string) => gauges.get(name)?.() ?? [] };
}

const applied = (partition: typeof a, events: number, lagEvents = 0n): [EventBatch, Step] => {
  const committedAtMs = Date.now() - 40;
  const to = { nextOffset: 7n, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: committedAtMs };
  const step = {
    advance: { partition, from: null, to },
    events: Array.from({ length: events }, () => ({ committedAtMs })),
    oldestAtMs: committedAtMs,
  };
  return [{ partition, lagEvents } as EventBatch, step as unknown as Step];
};
const error = new CascadeError({
  code: "REPLICA_TABLE_MISMATCH",
  verdict: "stop-table",
  message: "it does not fit",
  advice: "mend it",
});

test("a held table is not ready, says why and how to mend it, and is told once", () => {
  const { made, gauge } = status();
  expect(made.held(a, error)).toEqual({ failures: 1, news: true });
  expect(made.held(a, error)).toEqual({ failures: 2, news: false });
  expect(made.reasons()).toEqual(["public.a is held: REPLICA_TABLE_MISMATCH: it does not fit"]);
  expect(made.toJSON()).toMatchObject({
    tables: [
      { table: "public.a", state: "held", error: { code: "REPLICA_TABLE_MISMATCH", advice: "mend it" } },
      { table: "public.b", state: "live", error: null },
    ],
  });
  expect(gauge("cascade_router_table_state").map(({ value, labels }) => [labels?.["table"], labels?.["state"], value])).toEqual([
    ["public.a", "live", 0],
    ["public.a", "held", 1],
    ["public.a", "keys-held", 0],
    ["public.b", "live", 1],
    ["public.b", "held", 0],
    ["public.b", "keys-held", 0],
  ]);
  expect(made.applied(...applied(a, 1))).toBe(true);
  expect(made.applied(...applied(a, 1))).toBe(false);
  expect(made.reasons()).toEqual([]);
});

test("a message that holds its partition is named by its place", () => {
  const { made } = status();
  made.held(a, atOffset(error, { events: [{ offset: 12n, key: null, value: "{" }] } as unknown as EventBatch));
  expect(made.toJSON()).toMatchObject({ tables: [{ error: { ...a, offset: "12" } }, {}] });
});

test("a table that waits for its copy says so", () => {
  const { made } = status();
  const schema = tableSchema("b", { id: "integer" });
  made.follow(
    () => [a, b],
    () => new Map([["public.b", { schema, awaiting: "copy" }]]),
  );
  expect(made.toJSON()).toMatchObject({ tables: [{ awaitsCopy: false }, { awaitsCopy: true, schema: { id: schema.id } }] });
});

test("a table some of whose keys are held back is not ready, and counts them", () => {
  const { made, gauge } = status();
  made.follow(
    () => [a, b],
    null,
    ({ topic }) => (topic === a.topic ? 2 : 0),
  );
  expect(made.reasons()).toEqual(["public.a: the changes of 2 keys are held back"]);
  expect(made.toJSON()).toMatchObject({
    tables: [
      { state: "keys-held", heldKeys: 2, error: null },
      { state: "live", heldKeys: 0 },
    ],
  });
  expect(gauge("cascade_router_held_keys").map(({ value }) => value)).toEqual([2, 0]);
  expect(gauge("cascade_router_table_state").filter(({ value }) => value === 1)).toMatchObject([
    { labels: { table: "public.a", state: "keys-held" } },
    { labels: { table: "public.b", state: "live" } },
  ]);
});

test("lag is that of the oldest event of a batch, and of nothing when nothing came", () => {
  const { made, gauge } = status();
  expect(gauge("cascade_router_lag_seconds")).toEqual([{ value: 0, labels: { replica: "r" } }]);
  made.applied(...applied(a, 3, 12n));
  const [lag] = gauge("cascade_router_lag_seconds");
  expect(lag?.value).toBeGreaterThanOrEqual(0.04);
  expect(lag?.value).toBeLessThan(5);
  expect(made.toJSON()).toMatchObject({
    eventsTotal: 3,
    lagEvents: 12,
    partitions: [{ ...a, nextOffset: "7", lagEvents: 12 }, b],
  });
});

test("what waits has a lag that grows, also while its replica is away or its table held, until it is applied", () => {
  const { made, gauge } = status();
  const value = JSON.stringify({
    op: "c",
    before: null,
    after: {},
    source: { ts_ms: Date.now() - 60_000, commit_lsn: 1, ordinal: 0, schema_id: "s" },
  });
  const batch = { partition: a, lagEvents: 5n, events: [{ offset: 0n, key: null, value }] } as unknown as EventBatch;
  made.received(batch);
  made.follow(null);
  const lag = () => gauge("cascade_router_lag_seconds")[0]?.value ?? 0;
  expect(lag()).toBeGreaterThanOrEqual(60);
  expect(made.toJSON()).toMatchObject({ lagEvents: 6 });
  made.received({ ...batch, events: [{ offset: 0n, key: null, value: "{" }] });
  expect(lag()).toBeGreaterThanOrEqual(60);
  made.applied(...applied(a, 1));
  expect(lag()).toBeLessThan(5);
});

test("a partition that another router holds now is forgotten, its hold too", () => {
  const { made } = status();
  made.held(a, error);
  made.follow(() => [b]);
  expect(made.reasons()).toEqual([]);
  made.follow(() => [a, b]);
  expect(made.reasons()).toEqual([]);
});

const waiting = (offset: bigint, committedAtMs: number): EventBatch =>
  ({
    ...{
      partition: a,
      table: { schema: "public", table: "a" },
      nextOffset: offset + 1n,
      bytes: 1,
      lagEvents: 2n,
      traceParents: [],
    },
    events: [{ offset, key: null, value: "", decoded: { committedAtMs } }],
  }) as unknown as EventBatch;

test("what another router has applied meanwhile waits here no more", () => {
  const { made, gauge } = status();
  const lag = () => gauge("cascade_router_lag_seconds")[0]?.value ?? 0;
  made.received(waiting(4n, Date.now() - 60_000));
  made.held(a, error);
  // It is tried again: the replica is where it was.
  made.resumed(a, 4n);
  expect(lag()).toBeWithin(59, 70);
  expect(made.isHeld(a)).toBe(true);
  made.resumed(a, 5n);
  expect(lag()).toBe(0);
  expect(made.isHeld(a)).toBe(false);
  expect(made.toJSON()).toMatchObject({ lagEvents: 0, partitions: [{ nextOffset: "5" }, {}] });
  made.received(waiting(5n, Date.now() - 60_000));
  made.held(a, error);
  // Or its hold ends where the partition has been read to its end.
  made.mended(a);
  expect(lag()).toBe(0);
});

test("a batch without a row of ours is as late as any other, and no event of ours", () => {
  const { made, gauge } = status();
  const [batch, step] = applied(a, 0);
  made.applied(batch, { ...step, oldestAtMs: Date.now() - 3_600_000 });
  expect(gauge("cascade_router_lag_seconds")[0]?.value).toBeWithin(3_599, 3_610);
  expect(made.toJSON()).toMatchObject({ eventsTotal: 0, lagMs: { p50: null, max: null } });
  // One with nothing that is new says nothing.
  made.applied(batch, { ...step, oldestAtMs: null });
  expect(gauge("cascade_router_lag_seconds")[0]?.value).toBeWithin(3_599, 3_610);
});

test("the changes that wait are counted up to the log's end, also while one of them is being applied", () => {
  const { made, gauge } = status();
  let highWatermark = 10n;
  made.follow(() => [{ ...a, highWatermark }, b]);
  made.resumed(a, 4n);
  made.received(waiting(4n, Date.now()));
  highWatermark = 900n;
  expect(gauge("cascade_router_lag_events").map(({ value }) => value)).toEqual([896, 0]);
  made.applied(...applied(a, 1));
  expect(gauge("cascade_router_lag_events").map(({ value }) => value)).toEqual([893, 0]);
});
