import { describe, expect, test } from "bun:test";
import { boundMemory } from "./memory-bound.ts";

interface Done {
  garbage: number;
  givenBack: number;
}

async function done(maxRssBytes: number, forMs: number, takesMs = 0): Promise<Done> {
  const counts = { garbage: 0, givenBack: 0 };
  const stop = boundMemory(maxRssBytes, {
    garbage: () => {
      counts.garbage++;
      Bun.sleepSync(takesMs);
    },
    andGiveBack: () => {
      counts.givenBack++;
      Bun.sleepSync(takesMs);
    },
  });
  await Bun.sleep(forMs);
  stop();
  return counts;
}

test("above the limit garbage is collected, below it is left to the engine", async () => {
  expect(await done(Number.MAX_SAFE_INTEGER, 300)).toEqual({ garbage: 0, givenBack: 0 });
  const rssBytes = process.memoryUsage.rss();
  const near = await done(rssBytes * 0.9, 300);
  expect(near.garbage).toBeGreaterThan(0);
  expect(near.givenBack).toBe(0);
});

test("far above it the system gets its pages back", async () => {
  const { garbage, givenBack } = await done(1, 300);
  expect(garbage).toBe(0);
  expect(givenBack).toBeGreaterThan(0);
});

test("what is idle above the limit collects no more, until its memory grows", async () => {
  let collected = 0;
  const garbage = () => void collected++;
  const stop = boundMemory(1, { garbage, andGiveBack: garbage });
  try {
    await Bun.sleep(500);
    const atFirst = collected;
    expect(atFirst).toBeWithin(1, 4);
    await Bun.sleep(500);
    expect(collected).toBe(atFirst);
    const kept = Buffer.alloc(32 * 2 ** 20, "x");
    await Bun.sleep(200);
    expect(collected).toBeGreaterThan(atFirst);
    expect(kept.length).toBeGreaterThan(0);
  } finally {
    stop();
  }
});

describe("memory that is really in use does not make it collect all the time", () => {
  // A look every 25 ms, each taking 100 ms, would make it eight.
  async function doneWhileGrowing(share: number): Promise<Done> {
    const grown = [Buffer.alloc(600 * 2 ** 20, "x")];
    const growing = setInterval(() => grown.push(Buffer.alloc(3 * 2 ** 20, "x")), 25);
    try {
      return await done(process.memoryUsage.rss() * share, 1_000, 100);
    } finally {
      clearInterval(growing);
    }
  }

  test("a fifth of it above the limit", async () => {
    const { garbage, givenBack } = await doneWhileGrowing(0.95);
    expect(garbage).toBeWithin(1, 3);
    expect(givenBack).toBe(0);
  });

  test("six tenths of it far above", async () => {
    const { garbage, givenBack } = await doneWhileGrowing(0.1);
    expect(garbage).toBe(0);
    expect(givenBack).toBeWithin(3, 7);
  });
});
