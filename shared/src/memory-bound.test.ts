import { afterEach, expect, spyOn, test } from "bun:test";
import { boundMemory } from "./memory-bound.ts";

const collect = spyOn(Bun, "gc");
afterEach(() => collect.mockReset());

const collections = async (maxRssBytes: number, forMs: number): Promise<number> => {
  const stop = boundMemory(maxRssBytes);
  await Bun.sleep(forMs);
  stop();
  return collect.mock.calls.length;
};

test("above the limit garbage is collected, below it is left to the engine", async () => {
  expect(await collections(Number.MAX_SAFE_INTEGER, 500)).toBe(0);
  expect(await collections(1, 700)).toBeGreaterThan(0);
});

test("memory that is really in use does not make it collect all the time", async () => {
  collect.mockImplementation(() => {
    Bun.sleepSync(100);
    return 0;
  });
  // A look every 50 ms, each taking 100 ms, would make it six or seven.
  expect(await collections(1, 1_000)).toBeLessThanOrEqual(2);
});
