import { expect, test } from "bun:test";
import { chartsOf } from "./charts.ts";
import type { Figure } from "./figure.ts";

test("a part's chart has a bar for each workload and service, with its median", () => {
  const figure = (who: string, attempt: number, seconds: number): Figure => ({
    ...{ part: "capture", workload: "inserts", who, attempt, seconds, rows: 123_456, cpuSeconds: 1, peakRssBytes: 2e8 },
  });
  const charts = chartsOf([figure("cdc", 1, 1), figure("cdc", 2, 2), figure("cdc", 3, 4), figure("Debezium", 1, 8)]);
  expect([...charts.keys()]).toEqual(["capture.svg", "capture-memory.svg"]);
  const svg = charts.get("capture.svg") ?? "";
  for (const text of ["cdc", "Debezium", "inserts", "61,728", "15,432"]) expect(svg).toContain(`>${text}<`);
  expect(svg).not.toContain("123,456");
  expect(charts.get("capture-memory.svg")).toContain(">200<");
});
