import { expect, test } from "bun:test";
import type { EventMarks, ReceivedEvent } from "@cascade/shared/change-event";
import { NO_MARKS } from "@cascade/shared/testing/event-marks";
import { bySchema } from "./schema-runs.ts";

const event = (schemaId: string, marks: Partial<EventMarks> | null = null): ReceivedEvent => ({
  ...{ op: "c", before: null, after: {}, schemaId, committedAtMs: 0, commitLsn: 1n, ordinal: 0 },
  marks: marks === null ? null : { ...NO_MARKS, ...marks },
});

test("runs are of one schema each, without what is for others", () => {
  const events = [
    event("a"),
    event("a", { replica: "west" }),
    event("a"),
    event("b"),
    event("b", { notReplica: "x,east" }),
    event("a"),
  ];
  const runs = bySchema(events, "east").map(({ schemaId, start, events: { length } }) => [schemaId, start, length]);
  expect(runs).toEqual([
    ["a", 0, 2],
    ["b", 3, 1],
    ["a", 5, 1],
  ]);
});

test("that rows are missing on other replicas says nothing of this one", () => {
  const events = [
    event("a", { filling: true }),
    event("a", { filling: true, fillingFor: "east,west" }),
    event("a", { filling: true, fillingFor: "west", movedFrom: 2 }),
  ];
  const [run] = bySchema(events, "east");
  expect(run?.events.map(({ marks }) => marks?.filling)).toEqual([true, true, false]);
  expect(run?.events[2]?.marks?.movedFrom).toBe(2);
  // They are found among all by themselves.
  expect(run?.events.map((one) => events.indexOf(one))).toEqual([0, 1, 2]);
});
