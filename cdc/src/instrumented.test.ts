import { expect, test } from "bun:test";
import { countEvents } from "./instrumented.ts";

test("events are counted by table and op, however they are mixed", () => {
  const a = { schema: "public", table: "a", topic: "t", schemaId: "1" };
  const b = { schema: "s", table: "b c", topic: "t", schemaId: "2" };
  const events = [
    { table: a, op: "c" },
    { table: a, op: "c" },
    { table: b, op: "d" },
    { table: a, op: "u" },
    { table: a, op: "c" },
  ] as const;
  expect(countEvents(events)).toEqual([
    { table: "public.a", op: "c", count: 3 },
    { table: "public.a", op: "u", count: 1 },
    { table: 's."b c"', op: "d", count: 1 },
  ]);
  expect(countEvents([])).toEqual([]);
});
