import { expect, test } from "bun:test";
import { ProgressBook } from "./progress-book.ts";

const partition = { topic: "cascade.public.t", partition: 0 };
const progress = (nextOffset: bigint) => ({ nextOffset, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: 0 });

test("progress is what the replica said, until a commit moves it or it is read again", async () => {
  let stored: ReturnType<typeof progress> | null = null;
  const book = new ProgressBook({ progress: async () => stored });
  expect(() => book.current(partition)).toThrow("was not read");
  expect(await book.resume(partition)).toBeNull();
  expect(book.current(partition)).toBeNull();
  book.moved({ partition, from: null, to: progress(5n) });
  expect(book.current(partition)?.nextOffset).toBe(5n);
  stored = progress(9n);
  expect(await book.resume(partition)).toBe(9n);
  expect(book.current(partition)).toEqual(progress(9n));
  expect(() => book.current({ ...partition, partition: 1 })).toThrow("was not read");
});
