import { expect, test } from "bun:test";
import { parseShard, parseShardRules, type ShardRule } from "./shard-rules.ts";

const ruleOf = (text: string): ShardRule | undefined => parseShardRules(text).rules[0]?.rule;

test("a shard is one of so many", () => {
  expect(parseShard("0/4")).toEqual({ index: 0, count: 4 });
  expect(parseShard(" 3/4 ")).toEqual({ index: 3, count: 4 });
  for (const text of ["4/4", "1", "a/b", "-1/4", "0/0", "1/2/3", ""]) expect(() => parseShard(text)).toThrow(SyntaxError);
});

const number = (text: string) => ({ kind: "number", text, zoned: false }) as const;
const time = (text: string, zoned: boolean) => ({ kind: "time", text, zoned }) as const;
const cases: readonly (readonly [string, ShardRule])[] = [
  ["public.t=id", { kind: "hash", columns: ["id"] }],
  ["public.t = tenant_id + id ", { kind: "hash", columns: ["tenant_id", "id"] }],
  ['public.t="odd, ""name"""+"a+b"', { kind: "hash", columns: ['odd, "name"', "a+b"] }],
  ["public.t=*", { kind: "broadcast" }],
  ["public.t=region:eu|uk", { kind: "list", column: "region", values: ["eu", "uk"] }],
  ['public.t=region:"a|b,c"|d', { kind: "list", column: "region", values: ["a|b,c", "d"] }],
  ["public.t=region:eu", { kind: "list", column: "region", values: ["eu"] }],
  ['public.t=region: "" | "=" ', { kind: "list", column: "region", values: ["", "="] }],
  ['public.t=at:"10:00"|noon', { kind: "list", column: "at", values: ["10:00", "noon"] }],
  ['public."x=y"=id', { kind: "hash", columns: ["id"] }],
  ['"odd: |".t=id', { kind: "hash", columns: ["id"] }],
  ["public.t=id:1..1000", { kind: "range", column: "id", from: number("1"), to: number("1000") }],
  ["public.t=id : -5 .. -1 ", { kind: "range", column: "id", from: number("-5"), to: number("-1") }],
  ["public.t=id:..-5.5", { kind: "range", column: "id", from: null, to: number("-5.5") }],
  [
    "public.t=at:2026-01-01..",
    { kind: "range", column: "at", from: { kind: "date", text: "2026-01-01", zoned: false }, to: null },
  ],
  [
    "public.t=at:2026-01-01 00:00:00..2026-01-01 01:30:00+01",
    { kind: "range", column: "at", from: time("2026-01-01 00:00:00", false), to: time("2026-01-01 00:30:00", true) },
  ],
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

const faulty: readonly (readonly [text: string, told: string])[] = [
  ["", "no rule given"],
  [" , ", "no rule given"],
  ["public.t", '"public.t" is not schema.table=rule'],
  ["public.t=ok,public.u", '"public.u" is not schema.table=rule'],
  ["t=id", '"t" is not schema.table'],
  ["public.t=", "is not schema.table=rule"],
  ["public.t=region:a=b", "holds = goes in double quotes"],
  ["!public.t=id", "excludes"],
  ["public.a|b=id", "in it: such a part"],
  ["public.t=id,public.t=*", '"public.t" is named twice'],
  ['public.t=a",public.u=c', "a double quote is not closed"],
  ["public.t=+", "has none of: column"],
  ["public.t=a+", "has none of: column"],
  ['public.t=""', "has none of: column"],
  ["public.t=:eu", "has none of: column"],
  ["public.t=a+*", 'names column "*"'],
  ["public.t=a b", 'names column "a b"'],
  ["public.t=id..5", 'names column "id..5"'],
  ["public.t=id+id", "names a column twice"],
  ['public.t=region:"a"b|c', "beside double quotes"],
  ['public.t="a"b', "beside double quotes"],
  ["public.t=a:b:c", "a second colon"],
  ["public.t=id:", "a value that is empty"],
  ["public.t=region:eu||uk", "a value that is empty"],
  ["public.t=id:..", "a range without an end"],
  ["public.t=id:1..2..3", "more than two ends"],
  ["public.t=id:1..2|3", 'ends at "2|3"'],
  ["public.t=region:eu..", 'ends at "eu"'],
  ["public.t=region:..|x", 'ends at "|x"'],
  ["public.t=on:yesterday..", 'ends at "yesterday"'],
  ["public.t=on:..31.12.2026", 'ends at "31.12.2026"'],
  ["public.t=on:2026-1-1..2026-12-31", 'ends at "2026-1-1"'],
  ["public.t=on:..2026-02-30", 'ends at "2026-02-30"'],
  ["public.t=on:1..2026-01-01", "from a number to a date"],
  ["public.t=id:9..1", "ends before it begins"],
  ["public.t=on:2026-01-02..2026-01-01", "ends before it begins"],
];
test.each(faulty)("%s cannot be read: %s", (text, told) => {
  expect(() => parseShardRules(text)).toThrow(SyntaxError);
  expect(() => parseShardRules(text)).toThrow(told);
});
