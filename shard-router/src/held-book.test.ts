import { expect, test } from "bun:test";
import { HeldBook } from "./held-book.ts";

test("what is held is read once for all who ask before it is, and again for who asks while it is", async () => {
  const answers: (() => void)[] = [];
  let reads = 0;
  const book = new HeldBook({
    held: () => {
      reads++;
      return new Promise((resolve) => answers.push(() => resolve([])));
    },
  });
  const first = [book.reread(), book.reread()];
  await Bun.sleep(0);
  expect(reads).toBe(1);
  const second = [book.reread(), book.reread(), book.reread()];
  answers[0]?.();
  await Promise.all(first);
  await Bun.sleep(0);
  expect(reads).toBe(2);
  answers[1]?.();
  await Promise.all(second);
  expect(reads).toBe(2);
});

test("a look that fails fails for who asked for it, and the next is made", async () => {
  let fails = true;
  const book = new HeldBook({
    held: async () => {
      if (fails) throw new Error("away");
      return [];
    },
  });
  await expect(book.reread()).rejects.toThrow("away");
  const failing = expect(book.reread()).rejects.toThrow("away");
  await Bun.sleep(0);
  fails = false;
  await Promise.all([failing, book.reread()]);
});
