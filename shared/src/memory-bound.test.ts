import { expect, test } from "bun:test";
import { boundMemory } from "./memory-bound.ts";

/** Garbage that nothing but a collection would find: the test allocates next to nothing meanwhile. */
const garbage = (): readonly WeakRef<object>[] => Array.from({ length: 100 }, (_, at) => new WeakRef({ at }));

async function left(references: readonly WeakRef<object>[], withinMs: number): Promise<number> {
  const until = performance.now() + withinMs;
  const alive = () => references.filter((reference) => reference.deref() !== undefined).length;
  for (;;) {
    // A reference that was looked at is kept until the end of its turn.
    await Bun.sleep(100);
    if (performance.now() > until) return alive();
    if (alive() < references.length / 2) return 0;
  }
}

test("above the limit garbage is collected, below it is left to the engine", async () => {
  const stopHigh = boundMemory(Number.MAX_SAFE_INTEGER);
  expect(await left(garbage(), 1_000)).toBe(100);
  stopHigh();
  const stopLow = boundMemory(1);
  expect(await left(garbage(), 10_000)).toBe(0);
  stopLow();
});
