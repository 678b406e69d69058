import { expect, test } from "bun:test";
import { LagWindow } from "./lag-window.ts";

test("percentiles are of events, not of batches", () => {
  const window = new LagWindow();
  expect(window.summary()).toEqual({ p50: null, p99: null, max: null });
  window.add(5, 97);
  window.add(100, 2);
  window.add(900, 1);
  expect(window.summary()).toEqual({ p50: 5, p99: 100, max: 900 });
});

test("old batches fall out", () => {
  const window = new LagWindow();
  window.add(1_000_000, 1);
  for (let batch = 0; batch < 1024; batch++) window.add(1, 1);
  expect(window.summary().max).toBe(1);
});
