import { expect, test } from "bun:test";
import { lagsOf, percentiles } from "./latency.ts";

test("a transaction is visible at the first look that shows its last row", () => {
  const committed = [
    { lastId: 10, atMs: 100 },
    { lastId: 20, atMs: 101 },
    { lastId: 30, atMs: 105 },
  ];
  const seen = [
    { lastId: 5, atMs: 99 },
    { lastId: 20, atMs: 108 },
    { lastId: 30, atMs: 109 },
  ];
  expect(lagsOf(committed, seen)).toEqual([8, 7, 4]);
  expect(() => lagsOf(committed, seen.slice(0, 2))).toThrow("row 30");
});

test("percentiles are the nearest ranks", () => {
  const values = Array.from({ length: 1_000 }, (_, at) => 1_000 - at);
  expect(percentiles(values)).toEqual({ p50: 500, p99: 990, p999: 999 });
  expect(percentiles([7])).toEqual({ p50: 7, p99: 7, p999: 7 });
});
