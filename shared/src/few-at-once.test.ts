import { expect, test } from "bun:test";
import { FewAtOnce } from "./few-at-once.ts";

test("no more than a few are under way at once, all get their turn in order, and one that fails gives its place on", async () => {
  const few = new FewAtOnce(3);
  let underWay = 0;
  let most = 0;
  const begun: number[] = [];
  const work = (n: number) => async () => {
    begun.push(n);
    most = Math.max(most, ++underWay);
    await Bun.sleep(1);
    underWay--;
    if (n % 4 === 0) throw new Error("no");
    return n;
  };
  const numbers = Array.from({ length: 20 }, (_, n) => n);
  const ended = await Promise.allSettled(numbers.map((n) => few.run(work(n))));
  expect(ended.filter(({ status }) => status === "rejected")).toHaveLength(5);
  expect(begun).toEqual(numbers);
  expect(most).toBe(3);
});
