import { expect, test } from "bun:test";
import { backoffMs, pause } from "./retry.ts";

test("pauses double up to ten seconds, and chance moves them within their upper half", () => {
  const longest = Array.from({ length: 9 }, (_, at) => backoffMs(at + 1, () => 1));
  expect(longest).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
  expect(backoffMs(1, () => 0)).toBe(100);
  expect(backoffMs(1_000_000, () => 0)).toBe(5000);
});

test("a pause ends at once when it is aborted, before or meanwhile", async () => {
  const stop = new AbortController();
  const paused = pause(60_000, stop.signal);
  stop.abort();
  await paused;
  await pause(60_000, stop.signal);
});
