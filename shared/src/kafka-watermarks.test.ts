import { expect, test } from "bun:test";
import type { Admin } from "kafkajs";
import { WatermarkLooks } from "./kafka-watermarks.ts";

/** An admin that answers when told to. */
function slowAdmin() {
  const asked: { readonly topics: readonly string[]; answer(high: string): void; fail(error: Error): void }[] = [];
  const fetchOffsetsOfTopics = (topics: readonly string[]) =>
    new Promise((resolve, reject) => {
      const answer = (high: string) =>
        resolve(topics.map((topic) => ({ topic, partitions: [{ partition: 0, offset: high, low: "1", high }] })));
      asked.push({ topics, answer, fail: reject });
    });
  return { asked, looks: new WatermarkLooks({ fetchOffsetsOfTopics } as unknown as Admin) };
}
const of = (topic: string, partition = 0) => ({ topic, partition });

test("many looks are one, and who asks while it is under way gets the next", async () => {
  const { asked, looks } = slowAdmin();
  const first = Promise.all(["a", "b", "a"].map((topic) => looks.of(of(topic))));
  await Bun.sleep(1);
  const later = Promise.all(["a", "c"].map((topic) => looks.of(of(topic))));
  await Bun.sleep(1);
  expect(asked.map(({ topics }) => topics)).toEqual([["a", "b"]]);
  asked[0]?.answer("5");
  expect(await first).toEqual(Array(3).fill({ low: 1n, high: 5n }));
  await Bun.sleep(1);
  expect(asked.map(({ topics }) => topics)).toEqual([
    ["a", "b"],
    ["a", "c"],
  ]);
  asked[1]?.answer("6");
  expect(await later).toEqual(Array(2).fill({ low: 1n, high: 6n }));
});

test("a look that fails fails for whom it was for, and the next is made", async () => {
  const { asked, looks } = slowAdmin();
  const first = Promise.allSettled(["a", "b"].map((topic) => looks.of(of(topic))));
  await Bun.sleep(1);
  const later = looks.of(of("a"));
  asked[0]?.fail(new Error("connect ECONNREFUSED"));
  const reasons = (await first).map((result) => (result.status === "rejected" ? result.reason.message : null));
  expect(reasons).toEqual(Array(2).fill(expect.stringContaining("cannot read the offsets of 2 topics")));
  await Bun.sleep(1);
  asked[1]?.answer("6");
  expect(await later).toEqual({ low: 1n, high: 6n });
});

test("a partition that there is none of is named", async () => {
  const { asked, looks } = slowAdmin();
  const look = looks.of(of("a", 3)).catch((error: Error) => error.message);
  await Bun.sleep(1);
  asked[0]?.answer("5");
  expect(await look).toContain("cannot read the offsets of topic a: it has no partition 3");
});
