import { expect, test } from "bun:test";
import type { MainDbIdentity } from "./postgres/main-db-identity.ts";
import { switchedAt } from "./postgres/main-db-identity.ts";
import { createSlot } from "./postgres/slot.ts";
import { lossOf, MAX_PUSHED_BYTES, type SlotSituation, slotLost } from "./slot-loss.ts";
import { decodeSlotRecord, encodeSlotRecord, type SlotRecord } from "./slot-record.ts";

const record: SlotRecord = {
  slot: "app",
  systemId: "7",
  timeline: 1,
  bound: 1_000n,
  limit: 2_000n,
  heartbeat: 900n,
  synchronized: false,
  repair: null,
};
const mainDb: MainDbIdentity = { systemId: "7", timeline: 1, walEnd: 5_000n, synchronizedStandbys: false };
const healthy: SlotSituation = {
  slotName: "app",
  slot: { walStatus: "reserved", confirmedLsn: 1_000n },
  record,
  mainDb,
  leftTimelineAt: null,
  hasPublished: true,
};

const found = (change: Partial<SlotSituation>): string | null => lossOf({ ...healthy, ...change })?.code ?? null;

test("a slot that is where it was left, or behind it, goes on", () => {
  expect(found({})).toBeNull();
  expect(found({ slot: { walStatus: "extended", confirmedLsn: 10n } })).toBeNull();
});

test("a first start has nothing to compare with; a slot of a version without a record is taken over", () => {
  expect(found({ record: null, slot: null, hasPublished: false })).toBeNull();
  expect(found({ record: null })).toBeNull();
  expect(found({ record: null, slot: null })).toBe("SLOT_LOST");
});

test("a slot that is gone, has lost WAL, or is beyond what cdc has confirmed", () => {
  expect(found({ slot: null })).toBe("SLOT_LOST");
  expect(found({ slot: { walStatus: "lost", confirmedLsn: 10n } })).toBe("SLOT_LOST");
  expect(found({ slot: { walStatus: "reserved", confirmedLsn: 1_001n } })).toBe("SLOT_MOVED");
});

test("a repair that was begun goes on, whatever the slot looks like by then", () => {
  const repair = { reason: "it was gone", since: "2026-11-28T12:00:00.000Z" };
  expect(found({ record: { ...record, repair } })).toBe("SLOT_LOST");
});

test("another server, and one that was set back", () => {
  expect(found({ mainDb: { ...mainDb, systemId: "8" } })).toBe("MAIN_DB_REPLACED");
  expect(found({ mainDb: { ...mainDb, systemId: null } })).toBeNull();
  expect(found({ mainDb: { ...mainDb, walEnd: 999n } })).toBe("MAIN_DB_SET_BACK");
});

test("a promoted standby goes on where it left the timeline after all that was published, or where main-db waited for it", () => {
  const promoted = { ...mainDb, timeline: 2 };
  expect(found({ mainDb: promoted, leftTimelineAt: 2_000n })).toBeNull();
  expect(found({ mainDb: promoted, leftTimelineAt: 1_999n })).toBe("MAIN_DB_SET_BACK");
  expect(found({ mainDb: promoted, leftTimelineAt: null })).toBe("MAIN_DB_SET_BACK");
  const synchronized = { ...record, synchronized: true };
  expect(found({ mainDb: promoted, leftTimelineAt: 1_999n, record: synchronized })).toBeNull();
  expect(found({ mainDb: promoted, leftTimelineAt: 999n, record: synchronized })).toBe("MAIN_DB_SET_BACK");
});

test("what runs backwards by more than is written cannot be repaired, and its advice does not say so", () => {
  const far = lossOf({ ...healthy, slot: null, record: { ...record, limit: mainDb.walEnd + MAX_PUSHED_BYTES + 1n } });
  const near = lossOf({ ...healthy, slot: null, record: { ...record, limit: mainDb.walEnd + MAX_PUSHED_BYTES } });
  expect([far?.repairable, near?.repairable]).toEqual([false, true]);
  if (far === null || near === null) throw new TypeError("both are lost");
  expect(slotLost(far)).toMatchObject({ verdict: "refuse", advice: expect.stringContaining("does not help") });
  expect(slotLost(near).advice).toContain("set CDC_ON_SLOT_LOST=resnapshot");
});

test("the record reads as it was written; what is none is refused", () => {
  for (const one of [
    record,
    { ...record, systemId: null, heartbeat: null, bound: 0xffff_ffff_ffff_ffffn, repair: { reason: "r", since: "s" } },
  ])
    expect(decodeSlotRecord(encodeSlotRecord(one))).toEqual(one);
  for (const value of ["", "{}", encodeSlotRecord(record).replace("0/3E8", "far")])
    expect(() => decodeSlotRecord(value)).toThrow();
});

test("a timeline's history tells where each one was left", () => {
  const history = "1\t0/3000000\tno recovery target specified\n\n2\t1/5000098\tbefore 2026-11-28\n";
  expect([switchedAt(history, 1), switchedAt(history, 2), switchedAt(history, 3)]).toEqual([0x300_0000n, 0x1_0500_0098n, null]);
  expect(switchedAt("", 1)).toBeNull();
});

test("PostgreSQL 17 and newer make a failover slot", () => {
  expect(createSlot(150_018)).toBe("SELECT lsn::text AS begin FROM pg_create_logical_replication_slot($1, 'wal2json')");
  for (const version of [170_000, 180_006])
    expect(createSlot(version)).toBe(
      "SELECT lsn::text AS begin FROM pg_create_logical_replication_slot($1, 'wal2json', temporary => false, twophase => false, failover => true)",
    );
});
