import { expect, test } from "bun:test";
import type { SlotLook } from "./postgres/slot-look.ts";
import { type Pipeline, SlotHealth } from "./slot-health.ts";

const MIB = 1024 ** 2;
const well: Pipeline = { streams: true, pendingSeconds: 0, trouble: null };

interface Seen extends Partial<Omit<SlotLook, "slot">> {
  readonly retained?: number;
  readonly safe?: number | null;
  readonly status?: SlotLook["slot"]["walStatus"];
  readonly activePid?: number | null;
}

const look = ({ retained = 0, safe = null, status = "reserved", activePid = 7, ...rest }: Seen): SlotLook => ({
  slot: {
    plugin: "wal2json",
    database: "app",
    activePid,
    walStatus: status,
    confirmedLsn: 1n,
    retainedBytes: retained,
    safeBytes: safe,
    failover: false,
  },
  behindBytes: retained,
  longest: null,
  others: [],
  ...rest,
});

/** A look every five seconds. */
function watched(looks: readonly Seen[], pipeline: Pipeline = well) {
  const health = new SlotHealth("app");
  const said = looks.map((seen, at) => health.take(look(seen), pipeline, at * 5_000));
  return { health, said: said.flat() };
}

/** `rate` bytes a second, out of 1 GiB. */
const falling = (rate: number, looks: number, more: Seen = {}): Seen[] =>
  Array.from({ length: looks }, (_, at) => ({ retained: at * 5 * rate, safe: 1024 * MIB - at * 5 * rate, ...more }));

test("a slot that keeps up burns nothing, and its end is not known", () => {
  const { health, said } = watched([0, 16, 2, 18, 0, 15, 1].map((mib) => ({ retained: mib * MIB, safe: (1024 - mib) * MIB })));
  expect(health.burnBytesPerSecond).toBeLessThan(0.5 * MIB);
  expect([said, health.reasons()]).toEqual([[], []]);
});

test("whole segments that safe_wal_size counts by are no burning", () => {
  // 150 kB of WAL a second: what is kept goes to and fro, and what is safe shrinks for two minutes until the next segment of 16 MiB begins.
  const looks = Array.from({ length: 14 }, (_, at) => ({ retained: ((at % 3) + 1) * 750_000, safe: 64 * MIB - at * 750_000 }));
  const { health, said } = watched(looks);
  expect(health.burnBytesPerSecond).toBe(0);
  expect(health.secondsToExhaustion).toBeNull();
  expect(said).toEqual([]);
});

test("without a limit the burn rate is the growth of what is retained, and there is no end", () => {
  const { health } = watched([0, 10, 20, 30, 40, 50].map((mib) => ({ retained: mib * MIB })));
  expect(health.burnBytesPerSecond).toBe(2 * MIB);
  expect(health.secondsToExhaustion).toBeNull();
});

test("an end within the hour is warned of once, one within minutes is a danger", () => {
  const hour = watched(falling(MIB, 10));
  expect(hour.health.burnBytesPerSecond).toBe(MIB);
  expect(hour.health.secondsToExhaustion).toBe(1024 - 45);
  expect(hour.said).toEqual([expect.stringMatching(/"app" keeps 20 MiB .* in about 17 min .* raise max_slot_wal_keep_size/)]);
  expect(hour.health.reasons()).toEqual([]);
  const soon = watched(falling(8 * MIB, 10));
  expect(soon.health.reasons()).toEqual([expect.stringMatching(/in about 83 s/)]);
});

test("a burst is not taken for a trend", () => {
  const quiet = (looks: number) => Array.from({ length: looks }, () => ({ retained: 0, safe: 1024 * MIB }));
  expect(watched([...quiet(6), ...falling(20 * MIB, 5), ...quiet(6)]).said).toEqual([]);
});

test("what holds it back is named", () => {
  const said = (pipeline: Partial<Pipeline>, more: Seen = {}) =>
    watched(falling(MIB, 6, more), { ...well, ...pipeline }).said.join();
  expect(said({ trouble: "KAFKA_UNAVAILABLE: no broker" })).toContain("held back by KAFKA_UNAVAILABLE: no broker");
  expect(said({ pendingSeconds: 40 })).toContain("Kafka has not acknowledged a change for 40 s");
  expect(said({}, { longest: { pid: 42, seconds: 600 }, behindBytes: 0 })).toContain("process 42 has been open for 10 min");
  expect(said({}, { longest: { pid: 42, seconds: 600 } })).toContain("are not published yet");
});

test("WAL that is about to be removed is a danger until it is not; it is told again every ten minutes", () => {
  const health = new SlotHealth("app");
  const at = (seconds: number, status: SlotLook["slot"]["walStatus"]) => health.take(look({ status }), well, seconds * 1_000);
  expect(at(0, "unreserved")).toEqual([expect.stringContaining("raise max_slot_wal_keep_size now")]);
  expect(at(5, "unreserved")).toEqual([]);
  expect(health.reasons()).toHaveLength(1);
  expect(at(10, "reserved")).toEqual([]);
  expect(health.reasons()).toEqual([]);
  expect(at(601, "unreserved")).toHaveLength(1);
  expect(at(606, "lost")).toEqual([expect.stringContaining("has lost WAL")]);
  expect(health.reasons()).toHaveLength(1);
});

test("a slot that nobody reads is spoken of while cdc takes it for its own stream; others when they keep much WAL", () => {
  const unread = Array.from({ length: 4 }, () => ({ activePid: null }));
  expect(watched(unread).said).toEqual([expect.stringContaining("nobody reads")]);
  expect(watched(unread, { ...well, streams: false }).said).toEqual([]);
  const others = [
    { name: "old", retainedBytes: 3 * 1024 ** 3 },
    { name: "small", retainedBytes: MIB },
  ];
  const { said, health } = watched([{ others }, { others }]);
  expect(said).toEqual([expect.stringMatching(/slot "old", and main-db keeps 3072 MiB .*pg_drop_replication_slot\('old'\)/)]);
  expect(health.reasons()).toEqual([]);
});
