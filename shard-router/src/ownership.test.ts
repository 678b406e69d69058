import { describe, expect, test } from "bun:test";
import type { ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import { keyTextOf, partOf } from "@cascade/shared/key-parts";
import type { TableSchema } from "@cascade/shared/table-schema";
import { NO_MARKS } from "@cascade/shared/testing/event-marks";
import {
  batchesOf,
  batchSizes,
  comparableRows,
  TABLE_KINDS,
  type TableHistory,
  type TableKindName,
  tableHistory,
} from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { carryOutOr } from "../test/carry-out.ts";
import { coalesce } from "./coalesce.ts";
import { toMutations } from "./mutation.ts";
import { Ownership } from "./ownership.ts";
import { parseShardRules } from "./shard-rules.ts";

const COUNT = 3;
const ownerships = (rules: string | null): readonly Ownership[] =>
  Array.from(
    { length: COUNT },
    (_, index) => new Ownership({ index, count: COUNT }, rules === null ? null : parseShardRules(rules)),
  );

/** As `turn` does. */
function applied(ownership: Ownership, { schema, events }: TableHistory, sizes: readonly number[]): readonly WireRow[] {
  const share = ownership.of(schema);
  const rows: WireRow[] = [];
  for (const batch of batchesOf(events, sizes)) {
    const mine = share === null ? batch : batch.flatMap((event) => share.here(event) ?? []);
    const mutations = toMutations(schema, mine);
    carryOutOr(schema, rows, coalesce(schema, mutations), mutations);
  }
  return rows;
}

describe("the shards of any history have each row once, and together all of them", () => {
  const whole: readonly (readonly [TableKindName, string | null])[] = [
    ["keyOnly", null],
    ["keyOnly", "public.*=b"],
    ["full", null],
    ["full", "public.*=n"],
    ["full", "public.*=big+n"],
    ["keyless", "public.*=n"],
    ["keyless", "public.*=big"],
  ];
  test.each(whole)("%s by %s", (kind, rules) => {
    fc.assert(
      fc.property(tableHistory(kind), batchSizes, (history, sizes) => {
        const union = ownerships(rules).flatMap((ownership) => applied(ownership, history, sizes));
        expect(comparableRows(union)).toEqual(comparableRows(history.rows));
      }),
      { numRuns: 400 },
    );
  });

  // Of a table without full replica identity a row that moves comes without its unchanged large columns.
  const partial: readonly (readonly [TableKindName, string | null])[] = [
    ["plain", null],
    ["composite", null],
    ["composite", "public.*=a"],
    ["numericKey", null],
    ["unique", null],
  ];
  test.each(partial)("%s by %s, or a row that moves is missed where it goes: never is half of it there", (kind, rules) => {
    let [equal, missed] = [0, 0];
    fc.assert(
      fc.property(tableHistory(kind, { maxSteps: 12 }), batchSizes, (history, sizes) => {
        try {
          const union = ownerships(rules).flatMap((ownership) => applied(ownership, history, sizes));
          expect(comparableRows(union)).toEqual(comparableRows(history.rows));
          equal++;
        } catch (error) {
          if (!(error as Error).message.includes("a row that must exist is missing")) throw error;
          missed++;
        }
      }),
      { numRuns: 400 },
    );
    expect(equal).toBeGreaterThan(20);
    expect(missed).toBeGreaterThan(5);
  });
});

const event = (op: ReceivedEvent["op"], before: WireRow | null, after: WireRow | null): ReceivedEvent => ({
  ...{ op, before, after, schemaId: "", committedAtMs: 0, commitLsn: 1n, ordinal: 0, marks: null },
});

const wide = tableSchema(
  "o",
  {
    ...{ id: "bigint", region: "text", price: "numeric", on: "date", at: "timestamp without time zone" },
    ...{ tz: "timestamp with time zone", open: "boolean", ref: "uuid", constructor: "text" },
  },
  { identity: "full" },
);
const owns = (rules: string, row: WireRow): boolean => {
  const share = new Ownership(null, parseShardRules(rules)).of(wide);
  return share?.here(event("c", null, { id: "1", region: null, price: null, on: null, ...row })) !== null;
};

const lists: readonly (readonly [rule: string, row: WireRow, boolean])[] = [
  ["region:eu|uk", { region: "uk" }, true],
  ["region:eu|uk", { region: "us" }, false],
  ["region:eu|uk", { region: null }, false],
  ['region:""', { region: "" }, true],
  ['region:""', { region: null }, false],
  ["price:1.50|2", { price: "1.5" }, true],
  ["price:1.50|2", { price: "2.000" }, true],
  ["id:007|8", { id: "7" }, true],
  ["open:true", { open: true }, true],
  ["open:true", { open: false }, false],
  ["ref:A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", { ref: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" }, true],
  ['tz:"2026-01-31T12:00:00+02:00"', { tz: "2026-01-31 10:00:00+00" }, true],
  ["on:2026-01-31", { on: "2026-01-31" }, true],
  ["at:2026-01-31", { at: "2026-01-31 00:00:00" }, true],
  ["constructor:a", {}, false],
];
test.each(lists)("of the list %s %j is ours: %p", (rule, row, ours) => expect(owns(`public.o=${rule}`, row)).toBe(ours));

const ranges: readonly (readonly [rule: string, row: WireRow, boolean])[] = [
  ["id:100..9007199254740993", { id: "9007199254740993" }, true],
  ["id:100..9007199254740993", { id: "9007199254740994" }, false],
  ["id:100..", { id: "99" }, false],
  ["id: 1 .. 5", { id: "1" }, true],
  ["price:-1..1", { price: "NaN" }, false],
  ["price:-1..1", { price: "-0.999" }, true],
  ["on:2026-01-01 .. 2026-12-31", { on: "2026-01-01" }, true],
  ["on:2026-01-01..2026-12-31", { on: "2026-12-31" }, true],
  ["on:2026-01-01..2026-12-31", { on: "2027-01-01" }, false],
  ["on:2026-01-01..", { on: "infinity" }, false],
  ["on:0001-01-01..", { on: "0044-03-15 BC" }, false],
  ["on:..2026-12-31", { on: "10000-01-01" }, false],
  ["on:..2026-12-31", { on: null }, false],
  // All of the last day.
  ["at:..2026-01-31", { at: "2026-01-31 23:59:59.999999" }, true],
  ["at:..2026-01-31", { at: "2026-02-01 00:00:00" }, false],
  ["at:2026-01-31..", { at: "2026-01-31 00:00:00" }, true],
  ["at:2026-01-31T12:00..", { at: "2026-01-31 11:59:59" }, false],
  ["at:2026-01-31T12:00:00.500..", { at: "2026-01-31 12:00:00.5" }, true],
  ["at:..2026-01-31 12:00:00", { at: "2026-01-31 12:00:00.000001" }, false],
  ["tz:..2026-01-31 12:00:00", { tz: "2026-01-31 12:00:00+00" }, true],
  ["tz:..2026-01-31", { tz: "2026-01-31 23:59:59.9+00" }, true],
  ["tz:2026-01-31 00:00:00+02..", { tz: "2026-01-30 22:00:00+00" }, true],
  ["tz:2026-01-31 00:00:00+02..", { tz: "2026-01-30 21:59:59+00" }, false],
];
test.each(ranges)("of the range %s %j is ours: %p", (rule, row, ours) => expect(owns(`public.o=${rule}`, row)).toBe(ours));

test("all of a table on every shard, and of one that no rule names where there is no shard to hash to", () => {
  expect(new Ownership({ index: 0, count: 2 }, parseShardRules("public.o=*")).of(wide)).toBeNull();
  expect(new Ownership(null, parseShardRules("public.x=region:eu")).of(wide)).toBeNull();
});

test("a value or an end of a range that the column's type does not take is named", () => {
  const of = (rule: string) => () => new Ownership(null, parseShardRules(`public.o=${rule}`)).of(wide);
  const refused = [
    "id:x",
    "id:1.5",
    "price:2026-01-01",
    "on:2026-02-31",
    "open:t",
    "ref:7",
    "at:2026-01-31..2026-02-01 00:00:00Z",
  ];
  const others = ["id:2026-01-01..", "on:1..2", "on:2026-01-01 00:00:00..", 'at:"2026-01-31 12:00:00+02"'];
  for (const rule of [...refused, ...others])
    expect(of(rule)).toThrow(expect.objectContaining({ code: "SHARD_KEY", message: expect.stringContaining("which takes") }));
  expect(of("price:NaN")).not.toThrow();
});

test("what a replica remembers of its rules is read again; the same share has the same signature, another one another", () => {
  const [two, keys] = [{ index: 1, count: 2 }, parseShardRules("public.o=region:uk|eu, public.*=id")];
  for (const ownership of [
    new Ownership(two, keys),
    new Ownership(two, null),
    new Ownership(null, keys),
    new Ownership(null, parseShardRules("0/2.t=id:1")),
    new Ownership(null, null),
  ])
    expect(Ownership.parse(ownership.text)).toEqual(ownership);
  const signature = (text: string) => Ownership.parse(text).signatureOf(wide);
  expect(signature("public.o=region:uk|eu")).toBe(signature("public.*=region:eu|uk"));
  expect(signature("0/2")).toBe(signature("0/2 public.o=id"));
  expect(signature("0/1")).toBe(signature(""));
  expect(signature("0/2 public.o=nothing")).toBeNull();
  const all = ["", "0/2", "1/2", "0/3", "0/2 public.o=region", "0/2 public.o=id+region", "public.o=id:1|2", "public.o=id:1..2"];
  const others = ["public.o=id:1..", "public.o=id:..1", "public.o=region:eu"];
  expect(new Set([...all, ...others].map(signature)).size).toBe(all.length + others.length);
});

test("a table that cannot be divided is named with the cure", () => {
  const of = (rules: string | null, schema: TableSchema) => () =>
    new Ownership({ index: 0, count: 2 }, rules === null ? null : parseShardRules(rules)).of(schema);
  const codes = { code: "SHARD_KEY", verdict: "stop-table" };
  expect(of(null, TABLE_KINDS.keyless.schema)).toThrow(expect.objectContaining(codes));
  expect(of("public.*=nothing", TABLE_KINDS.plain.schema)).toThrow(/no column "nothing"/);
  expect(of("public.*=a", tableSchema("f", { id: "integer", a: "double precision" }, { identity: "full" }))).toThrow(
    /double precision/,
  );
  expect(of("public.*=a:1..2", tableSchema("f", { id: "integer", a: "text" }, { identity: "full" }))).toThrow(/no ranges/);
});

test("an update of a row that was here and is not any more deletes it, and so does what a copy reads", () => {
  const schema = tableSchema("o", { id: "integer", tenant: "text" }, { identity: "full" });
  const [first, second] = [0, 1].map((index) =>
    new Ownership({ index, count: 2 }, parseShardRules("public.o=tenant")).of(schema),
  );
  const [a, b] = ["a", "b", "c", "d", "e"].reduce<string[]>((found, tenant) => {
    found[partOf(tenant, 2)] ??= tenant;
    return found;
  }, []) as [string, string];
  const moved = event("u", { id: 1, tenant: a }, { id: 1, tenant: b });
  expect(first?.here(moved)).toMatchObject({ op: "d", before: { id: 1 }, after: null });
  // The row from before is another's: it is not looked for.
  expect(second?.here(moved)).toEqual({ ...moved, before: null });
  expect(first?.here(event("c", null, { id: 1, tenant: b }))).toBeNull();
  expect(first?.here(event("u", { id: 1, tenant: b }, { id: 1, tenant: b }))).toBeNull();
  // A large value that an update leaves as it is does not come with it.
  const left = event("u", { id: 1, tenant: a }, { id: 1 });
  expect([first?.here(left), second?.here(left)]).toEqual([left, null]);
  expect(first?.here(event("t", null, null))).not.toBeNull();
  expect(first?.here(event("r", null, { id: 1, tenant: b }))).toMatchObject({ op: "d", before: { id: 1 } });
  expect(first?.here(event("r", null, { id: 1, tenant: a }))).toMatchObject({ op: "r" });
  // Where the key says whose it is, it was never here.
  const byKey = [0, 1].map((index) => new Ownership({ index, count: 2 }, null).of(schema));
  expect(byKey.map((share) => share?.here(event("r", null, { id: 1, tenant: a })) === null).toSorted()).toEqual([false, true]);
});

test("while a table is copied, whose rows may have been written anew unseen, another's row that goes or changes is not left here", () => {
  const schema = tableSchema("o", { id: "integer", n: "integer" }, { identity: "full" });
  const filling = { ...NO_MARKS, filling: true };
  const index = 1 - partOf("7", 2);
  const share = new Ownership({ index, count: 2 }, parseShardRules("public.o=n")).of(schema);
  const [gone, same] = [event("d", { id: 1, n: 7 }, null), event("u", null, { id: 1, n: 7 })];
  expect([share?.here(gone), share?.here(same)]).toEqual([null, null]);
  expect(share?.here({ ...gone, marks: filling })).toMatchObject({ op: "d", before: { id: 1 } });
  expect(share?.here({ ...same, marks: filling })).toMatchObject({ op: "d", before: { id: 1 }, after: null });
  // Where the key says whose it is, it was never here.
  const byKey = new Ownership({ index: 1 - partOf("1", 2), count: 2 }, null).of(schema);
  expect(byKey?.here({ ...gone, marks: filling })).toBeNull();
});

test("of a table without a key a row that comes from another shard is put there, one that goes is found by what it was", () => {
  const { schema } = TABLE_KINDS.keyless;
  const by = schema.columns[0]?.name as string;
  const row = (value: number): WireRow =>
    Object.fromEntries(schema.columns.map(({ name }) => [name, name === by ? value : null]));
  const share = new Ownership({ index: partOf("1", 2), count: 2 }, parseShardRules(`public.*=${by}`)).of(schema);
  const other = [2, 3, 4, 5, 6].find((value) => partOf(String(value), 2) !== partOf("1", 2)) as number;
  expect(share?.here(event("u", row(other), row(1)))).toMatchObject({ op: "c", before: null, after: row(1) });
  expect(share?.here(event("u", row(1), row(other)))).toMatchObject({ op: "d", before: row(1) });
  // Nothing is there to be removed.
  expect(share?.here(event("r", null, row(other)))).toBeNull();
});

test("a table whose old rows do not say whose they were is not divided", () => {
  const of = (rules: string) => () => new Ownership({ index: 0, count: 2 }, parseShardRules(rules)).of(TABLE_KINDS.plain.schema);
  expect(of("public.*=n")).toThrow(/not all in its key/);
  expect(of("public.*=id")).not.toThrow();
});

test("a table whose shard column was written anew, unseen, is divided anew", () => {
  const ownership = new Ownership({ index: 0, count: 2 }, parseShardRules("public.*=region"));
  const of = (region: string, v: string) => tableSchema("t", { id: "integer", region, v }, { identity: "full" });
  const [from, to] = [of("text", "integer"), of("character varying", "integer")];
  expect([ownership.isDividedAnew(from, to), ownership.isDividedAnew(from, to, true)]).toEqual([false, true]);
  // Other columns' values say nothing of whose a row is.
  expect(ownership.isDividedAnew(from, of("text", "bigint"), true)).toBe(false);
  expect(new Ownership(null, null).isDividedAnew(from, to, true)).toBe(false);
});

test("of a table divided by its key, a partition is read by the shard whose rows it holds, and by no other", () => {
  const schema = tableSchema("t", { id: "bigint", v: "text" });
  const textOf = keyTextOf(schema);
  fc.assert(
    fc.property(fc.bigInt(), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 4 }), (id, shards, times) => {
      const row = { id: String(id), v: "" };
      const partition = partOf(textOf?.(row) ?? "", shards * times);
      for (let index = 0; index < shards; index++) {
        const ownership = new Ownership({ index, count: shards }, parseShardRules("public.other=v"));
        const owns = ownership.of(schema)?.owns(row) ?? true;
        if (shards * times > 1) expect(ownership.reads(schema, partition, shards * times)).toBe(owns);
      }
    }),
  );
  const third = new Ownership({ index: 2, count: 3 }, parseShardRules("public.other=v"));
  // Not a multiple, divided by another column, a partition that was added.
  expect([third.reads(schema, 0, 4), third.reads({ schema: "public", table: "other" }, 0, 6), third.reads(schema, 9, 6)]).toEqual(
    [true, true, true],
  );
  expect([0, 1, 2, 3, 4, 5].filter((partition) => third.reads(schema, partition, 6))).toEqual([2, 5]);
});
