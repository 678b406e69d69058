import { expect, test } from "bun:test";
import { whileAnswering } from "./while-answering.ts";

test("work is what it waits for while the other side answers", async () => {
  let checks = 0;
  const work = Promise.withResolvers<void>();
  const check = async () => {
    checks++;
    if (checks === 3) work.resolve();
  };
  await whileAnswering(check, work.promise, { intervalMs: 1 });
  expect(checks).toBe(3);
});

test("a side that no longer answers ends it, whatever work does", async () => {
  await expect(whileAnswering(() => Promise.reject(new Error("away")), new Promise(() => {}), { intervalMs: 1 })).rejects.toThrow(
    "away",
  );
});

test("what work rejects with comes through, without a check", async () => {
  const failing = whileAnswering(() => Promise.reject(new Error("late")), Promise.reject(new Error("first")), {
    intervalMs: 60_000,
  });
  await expect(failing).rejects.toThrow("first");
});

test("a side that is silent is told of, and so is its answer", async () => {
  const answer = Promise.withResolvers<void>();
  const work = Promise.withResolvers<void>();
  const told: boolean[] = [];
  const onSilence = (silent: boolean) => {
    told.push(silent);
    if (silent) answer.resolve();
    else work.resolve();
  };
  await whileAnswering(() => answer.promise, work.promise, { intervalMs: 1, silenceMs: 5, onSilence });
  expect(told).toEqual([true, false]);
});
