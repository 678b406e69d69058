import { expect, test } from "bun:test";
import type { Figure } from "./figure.ts";
import { describe } from "./scale.ts";
import { gain, scaleTable } from "./scale-table.ts";

const figure = (routers: number, attempt: number, seconds: number, latencyMs = 5): Figure => {
  const point = { replicas: 1, routers, tables: 10, partitions: 1, latencyMs, batchRows: 100 };
  const measured = {
    roundTripMs: 5.4,
    waiting: 0.9,
    rowsPerBatch: 99,
    msPerBatch: 14,
    transactionsPerBatch: 1.2,
    joinSeconds: 1,
  };
  return {
    ...{ part: "scale", who: describe(point), attempt, rows: 1_000, seconds, cpuSeconds: 0.02, peakRssBytes: 17e7 },
    scaled: { ...point, ...measured },
  };
};

test("a gain is the median over the runs of the ratio within each, over the fewest routers on the same way", () => {
  const figures = [
    ...[figure(1, 1, 4), figure(4, 1, 2)], // 2
    ...[figure(1, 2, 9), figure(4, 2, 3)], // 3
    ...[figure(1, 3, 50), figure(4, 3, 10)], // 5
    ...[figure(4, 1, 1, 0), figure(4, 2, 1, 0)],
  ];
  expect(gain(figures, figure(4, 1, 2))).toBeCloseTo(3);
  expect(gain(figures, figure(1, 1, 4))).toBeNull();
  expect(gain(figures, figure(4, 1, 1, 0))).toBeNull(); // nothing to compare with
});

test("a point has a line: of its median run, with its gain", () => {
  const lines = scaleTable([figure(1, 1, 4), figure(4, 1, 1)]).split("\n");
  expect(lines).toHaveLength(4);
  const cellsOf = (line = "") => line.split("|").map((cell) => cell.trim());
  const [names, one, four] = [cellsOf(lines[0]), cellsOf(lines[2]), cellsOf(lines[3])];
  const of = (cells: readonly string[], name: string) => cells[names.indexOf(name)];
  expect([of(one, "routers"), of(one, "rows/s"), of(one, "gain")]).toEqual(["1", "250", ""]);
  expect([of(four, "routers"), of(four, "rows/s"), of(four, "gain")]).toEqual(["4", "1,000", "4.00"]);
  expect([of(four, "round trip ms"), of(four, "CPU s per million rows"), of(four, "waiting")]).toEqual(["5.4", "20.0", "0.90"]);
});
