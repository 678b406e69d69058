import { expect, test } from "bun:test";
import { parseShard, parseShardRules, type ShardRule } from "./shard-rules.ts";

const ruleOf = (text: string): ShardRule | undefined => parseShardRules(text).rules[0]?.rule;

test("a shard is one of so many", () => {
  expect(parseShard("0/4")).toEqual({ index: 0, count: 4 });
  expect(parseShard(" 3/4 ")).toEqual({ index: 3, count: 4 });
  for (const text of ["4/4", "1", "a/b", "-1/4", "0/0", "1/2/3", ""]) expect(() => parseShard(text)).toThrow(SyntaxError);
});

const cases: readonly (readonly [string, ShardRule])[] = [
  ["public.t=id", { kind: "hash", columns: ["id"] }],
  ["public.t = tenant_id + id ", { kind: "hash", columns: ["tenant_id", "id"] }],
  ['public.t="odd, ""name"""+"a+b"', { kind: "hash", columns: ['odd, "name"', "a+b"] }],
  ["public.t=*", { kind: "broadcast" }],
  ["public.t=region:eu|uk", { kind: "list", column: "region", values: ["eu", "uk"] }],
  ['public.t=region:"a|b,c"|d', { kind: "list", column: "region", values: ["a|b,c", "d"] }],
  ["public.t=region:eu", { kind: "list", column: "region", values: ["eu"] }],
  ["public.t=id:1..1000", { kind: "range", column: "id", from: "1", to: "1000" }],
  ["public.t=id:..-5.5", { kind: "range", column: "id", from: null, to: "-5.5" }],
  ["public.t=at:2026-01-01..", { kind: "range", column: "at", from: "2026-01-01", to: null }],
  ["public.t=at:2026-01-01 00:00:00..2026-02-01", { kind: "range", column: "at", from: "2026-01-01 00:00:00", to: "2026-02-01" }],
];
test.each(cases)("%s", (text, rule) => expect(ruleOf(text)).toEqual(rule));

test("the first rule that names a table counts", () => {
  const { rules } = parseShardRules("public.countries=*, public.*=tenant_id ,sales.orders=region:eu|uk");
  const of = (schema: string, table: string): string | undefined =>
    rules.find(({ tables }) => tables.matches({ schema, table }))?.rule.kind;
  expect([of("public", "countries"), of("public", "orders"), of("sales", "orders"), of("sales", "x")]).toEqual([
    ...["broadcast", "hash", "list"],
    undefined,
  ]);
});

test("what cannot be read is named", () => {
  for (const text of [
    "",
    "public.t",
    "t=id",
    "public.t=",
    "!public.t=id",
    "public.t=id:",
    "public.t=id:..",
    "public.t=a b:",
    "public.t=+",
  ])
    expect(() => parseShardRules(text)).toThrow(SyntaxError);
  expect(() => parseShardRules("public.t=ok,public.u")).toThrow('"public.u"');
});
