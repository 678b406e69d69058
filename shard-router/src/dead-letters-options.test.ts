import { expect, test } from "bun:test";
import { readDeadLettersOptions, UsageError } from "./dead-letters-options.ts";
import type { HeldKey } from "./held-keys.ts";

const key = (topic: string, text: string) => ({ partition: { topic, partition: 0 }, text }) as HeldKey;
const orders = key("cascade.public.orders", '{"id":42}');
const sales = key("cascade.sales.parts", '{"a":"x","b":"1"}');

function selected(...args: readonly string[]): readonly boolean[] {
  const options = readDeadLettersOptions(args);
  return [orders, sales].map((one) => options?.selects("cascade", one) ?? false);
}

test("everything is selected, or what the tables and keys say", () => {
  expect(selected("list")).toEqual([true, true]);
  expect(selected("--", "replay", "--tables", "sales.*")).toEqual([false, true]);
  expect(selected("replay", "--key", '{"id":"42"}')).toEqual([true, false]);
  expect(selected("discard", "--key", '{"b":1,"a":"x"}', "--key", '{"id":42}')).toEqual([true, true]);
  expect(selected("discard", "--tables", "public.*", "--key", '{"b":1,"a":"x"}')).toEqual([false, false]);
  expect(readDeadLettersOptions(["--help"])).toBeNull();
});

test("what cannot be meant is refused, and nothing is discarded by leaving something out", () => {
  const wrong = [
    [],
    ["forget"],
    ["list", "replay"],
    ["discard"],
    ["replay", "--key", "42"],
    ["replay", "--key", "{"],
    ["list", "--kez"],
  ];
  for (const args of wrong) expect(() => readDeadLettersOptions(args)).toThrow(UsageError);
  expect(selected("discard", "--all")).toEqual([true, true]);
});
