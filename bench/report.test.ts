import { expect, test } from "bun:test";
import type { Figure } from "./figure.ts";
import { reached, table } from "./report.ts";

const figure = (who: string, attempt: number, seconds: number, against?: string): Figure => ({
  ...{ part: "capture", who, attempt, seconds, rows: 100, cpuSeconds: 1, peakRssBytes: 0 },
  ...(against === undefined ? {} : { against }),
});

test("what was reached of a ceiling is the median over the runs of the ratio within each", () => {
  const figures = [
    ...[figure("cdc", 1, 2), figure("alone", 1, 1, "cdc")], // 0.5
    ...[figure("cdc", 2, 10), figure("alone", 2, 9, "cdc")], // 0.9
    ...[figure("cdc", 3, 5), figure("alone", 3, 4, "cdc")], // 0.8
  ];
  expect(reached(figures, figure("alone", 1, 1, "cdc"))).toBeCloseTo(0.8);
  expect(reached(figures, figure("cdc", 1, 2))).toBeNull();
  const [, , cdc, alone] = table(figures).split("\n");
  expect(cdc).toContain("|    5.00 |        20 |         |");
  expect(alone).toContain("|    4.00 |        25 |    0.80 |");
});
