import { describe, expect, test } from "bun:test";
import type { ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import { partOf } from "@cascade/shared/key-parts";
import type { TableSchema } from "@cascade/shared/table-schema";
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
import { ConstraintError, carryOut } from "../test/carry-out.ts";
import { coalesce } from "./coalesce.ts";
import { toMutations } from "./mutation.ts";
import { compareNumbers, Ownership } from "./ownership.ts";
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
    const mine = share === null ? batch : batch.filter((event) => share.concerns(event)).map((event) => share.here(event));
    const mutations = toMutations(schema, mine);
    const before = [...rows];
    try {
      carryOut(schema, rows, coalesce(schema, mutations));
    } catch (error) {
      if (!(error instanceof ConstraintError)) throw error;
      rows.splice(0, rows.length, ...before);
      carryOut(schema, rows, mutations);
    }
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

test("values, ranges, and tables on every shard", () => {
  const schema = tableSchema("o", { id: "bigint", region: "text", price: "numeric", on: "date" }, { identity: "full" });
  const owns = (rules: string, row: WireRow): boolean | undefined =>
    new Ownership(null, parseShardRules(rules))
      .of(schema)
      ?.concerns(event("c", null, { id: "1", region: null, price: null, on: null, ...row }));
  expect(owns("public.o=region:eu|uk", { region: "uk" })).toBe(true);
  expect(owns("public.o=region:eu|uk", { region: "us" })).toBe(false);
  expect(owns("public.o=region:eu|uk", { region: null })).toBe(false);
  expect(owns("public.o=price:1.50|2", { price: "1.5" })).toBe(true);
  expect(owns("public.o=price:1.50|2", { price: "2.000" })).toBe(true);
  expect(owns("public.o=id:100..9007199254740993", { id: "9007199254740993" })).toBe(true);
  expect(owns("public.o=id:100..9007199254740993", { id: "9007199254740994" })).toBe(false);
  expect(owns("public.o=id:100..", { id: "99" })).toBe(false);
  expect(owns("public.o=price:-1..1", { price: "NaN" })).toBe(false);
  expect(owns("public.o=price:-1..1", { price: "-0.999" })).toBe(true);
  expect(owns("public.o=on:2026-01-01..2026-12-31", { on: "2026-12-31" })).toBe(true);
  expect(owns("public.o=on:2026-01-01..2026-12-31", { on: "2027-01-01" })).toBe(false);
  expect(owns("public.o=on:2026-01-01..", { on: "infinity" })).toBe(false);
  expect(new Ownership({ index: 0, count: 2 }, parseShardRules("public.o=*")).of(schema)).toBeNull();
  // Not named by a rule, and no shard to hash to: all of it.
  expect(new Ownership(null, parseShardRules("public.x=region:eu")).of(schema)).toBeNull();
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
  expect(of("public.*=id:x..2", TABLE_KINDS.plain.schema)).toThrow(/"x", which is no number/);
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
  expect(first?.concerns(moved)).toBe(true);
  expect(first?.here(moved)).toMatchObject({ op: "d", before: { id: 1 }, after: null });
  expect(second?.here(moved)).toBe(moved);
  expect(first?.concerns(event("c", null, { id: 1, tenant: b }))).toBe(false);
  expect(first?.concerns(event("u", { id: 1, tenant: b }, { id: 1, tenant: b }))).toBe(false);
  expect(first?.concerns(event("t", null, null))).toBe(true);
  const read = event("r", null, { id: 1, tenant: b });
  expect(first?.concerns(read)).toBe(true);
  expect(first?.here(read)).toMatchObject({ op: "d", before: { id: 1 } });
});

test("a table whose old rows do not say whose they were is not divided", () => {
  const of = (rules: string) => () => new Ownership({ index: 0, count: 2 }, parseShardRules(rules)).of(TABLE_KINDS.plain.schema);
  expect(of("public.*=n")).toThrow(/not all in its key/);
  expect(of("public.*=id")).not.toThrow();
});

test("decimals of any length are compared as numbers", () => {
  const decimal = fc.tuple(fc.boolean(), fc.bigInt({ min: 0n, max: 10n ** 30n }), fc.nat(20)).map(([negative, digits, scale]) => {
    const text = String(digits).padStart(scale + 1, "0");
    const whole = text.slice(0, text.length - scale);
    return {
      text: `${negative ? "-" : ""}${whole}${scale === 0 ? "" : `.${text.slice(-scale)}`}`,
      value: (negative ? -digits : digits) * 10n ** BigInt(20 - scale),
    };
  });
  fc.assert(
    fc.property(decimal, decimal, (one, other) => {
      const order = one.value < other.value ? -1 : Number(one.value > other.value);
      expect(Math.sign(compareNumbers(one.text, other.text))).toBe(order);
    }),
    { numRuns: 2000 },
  );
});
