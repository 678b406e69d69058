import { expect, test } from "bun:test";
import { SettledSince } from "./settled-since.ts";

test("what was made sure of since is not asked for again; what may have been said later is", async () => {
  let asked = 0;
  let fails = false;
  const schemas = {
    settle: async () => {
      asked++;
      if (fails) throw new Error("Kafka is away");
    },
  };
  const settled = new SettledSince(schemas);
  const first = performance.now();
  await Bun.sleep(1);
  for (let n = 0; n < 3; n++) await settled.settle(first);
  expect(asked).toBe(1);
  await settled.settle(performance.now());
  expect(asked).toBe(2);
  await settled.settle(null);
  await settled.settle(null);
  expect(asked).toBe(4);
  await Bun.sleep(1);
  const later = performance.now();
  await Bun.sleep(1);
  fails = true;
  await expect(settled.settle(later)).rejects.toThrow("Kafka is away");
  fails = false;
  await settled.settle(later);
  await settled.settle(later);
  expect(asked).toBe(6);
});

test("what is said while it is being made sure of does not count as known", async () => {
  let asked = 0;
  let saidMs = 0;
  const settled = new SettledSince({
    settle: async () => {
      asked++;
      await Bun.sleep(2);
      saidMs = performance.now();
      await Bun.sleep(2);
    },
  });
  await settled.settle(null);
  await settled.settle(saidMs);
  expect(asked).toBe(2);
});
