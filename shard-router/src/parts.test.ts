import { describe, expect, test } from "bun:test";
import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { Ownership } from "./ownership.ts";
import { divisionProblem, lies, partHeld, partOfOthers } from "./parts.ts";
import { settingsOf } from "./reshard.ts";
import { parseShardRules, type Shard } from "./shard-rules.ts";

const owns = (ownership: Ownership, schema: TableSchema) => {
  const share = ownership.of(schema);
  return (row: WireRow) => share === null || share.owns(row);
};

const table = (column: string): TableSchema => tableSchema("t", { id: "bigint", v: column }, { key: ["id", "v"] });

interface Case {
  readonly schema: TableSchema;
  /** Of every kind that a part can tell apart. */
  readonly rows: readonly WireRow[];
  readonly part: fc.Arbitrary<Ownership>;
}

const byRules = (rules: string, shard: Shard | null = null): Ownership => new Ownership(shard, parseShardRules(rules));
const within = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const hashes = (most: number, least = 1): fc.Arbitrary<Shard> =>
  fc
    .integer({ min: least, max: most })
    .chain((count) => fc.record({ index: fc.integer({ min: 0, max: count - 1 }), count: fc.constant(count) }));

/** `values`: in their order, every one that is in a range of these bounds or beside it. */
function ranges(column: string, values: readonly string[], bounds: readonly string[]): Case {
  const bound = fc.option(fc.constantFrom(...bounds), { nil: "", freq: 5 });
  const read = (from: string, to: string): Ownership | null => {
    try {
      return byRules(`public.t=v:"${from}".."${to}"`.replaceAll('""', ""));
    } catch (error) {
      if (error instanceof SyntaxError) return null; // open on both sides, or empty
      throw error;
    }
  };
  const part = fc
    .tuple(bound, bound)
    .map(([from, to]) => read(from, to))
    .filter((ownership) => ownership !== null);
  return { schema: table(column), rows: values.map((v) => ({ id: "1", v })), part };
}

const CASES: Readonly<Record<string, Case>> = {
  hash: {
    schema: table("integer"),
    rows: within(1, 600).map((v) => ({ id: String(v), v })),
    part: hashes(6, 2).map((shard) => byRules("public.t=v", shard)),
  },
  list: {
    schema: table("text"),
    rows: ["a", "b", "c", "d", "e"].map((v) => ({ id: "1", v })),
    part: fc
      .uniqueArray(fc.constantFrom("a", "b", "c", "d"), { minLength: 1 })
      .map((values) => byRules(`public.t=v:${values.join("|")}`)),
  },
  "list of numerics": {
    schema: table("numeric(5,2)"),
    rows: ["1.00", "1.50", "2.00", "3.00"].map((v) => ({ id: "1", v })),
    part: fc
      .uniqueArray(fc.constantFrom("1", "1.0", "1.50", "2.00"), { minLength: 1 })
      .map((values) => byRules(`public.t=v:${values.join("|")}`)),
  },
  "range of whole numbers": ranges("integer", within(-4, 8).map(String), ["-3", "0", "1", "2", "3", "1.5", "6"]),
  "range of numerics": ranges(
    "numeric(5,1)",
    within(-35, 45).map((n) => (n / 10).toFixed(1)),
    ["-3", "-2.9", "-0.05", "0", "0.1", "1.95", "2", "2.1", "4.0"],
  ),
  "range of dates": ranges(
    "date",
    [
      "2025-12-30",
      "2025-12-31",
      "2026-01-01",
      "2026-01-02",
      "2026-01-03",
      "2026-02-27",
      "2026-02-28",
      "2026-03-01",
      "2026-03-02",
    ],
    ["2025-12-31", "2026-01-01", "2026-01-02", "2026-02-28", "2026-03-01"],
  ),
  "range of times": ranges(
    "timestamp with time zone",
    [
      ...["2026-01-01 23:59:59.999998+00", "2026-01-01 23:59:59.999999+00", "2026-01-02 00:00:00+00"],
      ...["2026-01-02 00:00:00.000001+00", "2026-01-02 10:00:00.499999+00", "2026-01-02 10:00:00.5+00"],
      ...["2026-01-02 10:00:00.500001+00", "2026-01-02 23:59:59.999999+00", "2026-01-03 00:00:00+00"],
      ...["2026-01-03 23:59:59.999999+00", "2026-01-04 00:00:00+00"],
    ],
    [
      ...["2026-01-02", "2026-01-02 00:00:00", "2026-01-02 00:00:00+00", "2026-01-01 23:59:59.999999+00"],
      ...["2026-01-02 10:00:00.5", "2026-01-02 10:00:00.5+00", "2026-01-03"],
    ],
  ),
};

describe("what is said of parts is so of every row", () => {
  test.each(Object.entries(CASES))("%s", (_, { schema, rows, part }) => {
    let [whole, inside] = [0, 0];
    fc.assert(
      fc.property(part, fc.array(part, { minLength: 1, maxLength: 3 }), (from, parts) => {
        const isHere = owns(from, schema);
        const holders = parts.map((each) => owns(each, schema));
        const counts = rows.filter(isHere).map((row) => holders.filter((holds) => holds(row)).length);
        const problem = divisionProblem(
          partHeld(from, schema),
          parts.map((each) => partHeld(each, schema)),
          schema,
        );
        // Both ways: what is refused would have gone wrong for one of these rows.
        expect(problem === null).toBe(counts.every((count) => count === 1));
        if (problem === null) whole++;
        for (const [at, each] of parts.entries()) {
          const isWithin = rows.every((row) => !holders[at]?.(row) || isHere(row));
          expect(lies(partHeld(each, schema), partHeld(from, schema))).toBe(isWithin);
          if (isWithin) inside++;
        }
      }),
      { numRuns: 3_000 },
    );
    expect(whole).toBeGreaterThan(20);
    expect(inside).toBeGreaterThan(50);
  });
});

const hash = (index: number, count: number) => new Ownership({ index, count }, null);

test("the parts of a whole are as many as one likes", () => {
  fc.assert(
    fc.property(hashes(50), fc.integer({ min: 1, max: 8 }), ({ index, count }, times) => {
      const schema = table("text");
      const parts = within(0, times - 1).map((at) => partHeld(hash(index + at * count, count * times), schema));
      expect(divisionProblem(partHeld(hash(index, count), schema), parts, schema)).toBeNull();
      for (const part of parts) expect(lies(part, partHeld(hash(index, count), schema))).toBe(true);
      if (times > 1) expect(divisionProblem(partHeld(hash(index, count), schema), parts.slice(1), schema)).toContain("none");
      expect(divisionProblem(partHeld(hash(index, count), schema), [...parts, ...parts.slice(0, 1)], schema)).toContain(
        times * count > 1 ? "two" : "each of them",
      );
    }),
  );
});

describe("a replica of everything", () => {
  const all = new Ownership(null, null);
  const schema = table("integer");
  const problem = (rules: readonly string[], of = schema) =>
    divisionProblem(
      partHeld(all, of),
      rules.map((rule) => partHeld(byRules(rule), of)),
      of,
    );
  test("becomes hashes", () => {
    const parts = [hash(0, 3), hash(1, 3), hash(2, 3)];
    expect(divisionProblem(partOfOthers(all), parts.map(partOfOthers), null)).toBeNull();
    expect(divisionProblem(partOfOthers(all), parts.slice(1).map(partOfOthers), null)).toContain("none");
  });
  test("becomes ranges of whole numbers that are never NULL, and no others", () => {
    const halves = ["public.t=v:..10", "public.t=v:11.."];
    expect(problem(halves)).toBeNull();
    expect(problem(["public.t=v:..10", "public.t=v:12.."])).toContain("none");
    expect(problem(halves, table("numeric"))).toContain("another");
    expect(problem(halves, table("numeric(3,0)"))).toContain("NULL");
    const nullable = tableSchema("t", { id: "bigint", v: "integer" }, { key: ["id"], identity: "full" });
    expect(
      problem(halves, { ...nullable, columns: nullable.columns.map((column) => ({ ...column, nullable: true })) }),
    ).toContain("NULL");
  });
  test("becomes no lists", () => expect(problem(["public.t=v:1", "public.t=v:2"])).toContain("lists"));
  test("stays whole on every shard where a rule says so, and only then", () => {
    expect(problem(["public.t=*", "public.t=*"])).toBeNull();
    expect(problem(["public.t=*", "public.t=v:1"])).toContain("otherwise");
  });
});

test("what is divided by other columns does not fit together", () => {
  const schema = table("integer");
  const [one, other] = [byRules("public.t=v", { index: 0, count: 2 }), byRules("public.t=id", { index: 1, count: 2 })];
  expect(divisionProblem(partHeld(hash(0, 1), schema), [partHeld(one, schema), partHeld(other, schema)], schema)).toContain(
    "otherwise",
  );
  expect(
    lies(
      partHeld(byRules("public.t=id", { index: 0, count: 4 }), schema),
      partHeld(byRules("public.t=v", { index: 0, count: 2 }), schema),
    ),
  ).toBe(false);
  expect(lies(partHeld(byRules("public.t=*"), schema), partHeld(hash(0, 2), schema))).toBe(false);
});

test("a claim is read as it was written", () => {
  for (const [shard, rules] of [
    [{ index: 3, count: 12 }, "public.a=b+c, public.z=region:eu|uk"],
    [null, 'public.a=v:"1"..3'],
    [{ index: 0, count: 1 }, null],
    [null, null],
  ] as const) {
    const ownership = new Ownership(shard, rules === null ? null : parseShardRules(rules));
    const read = Ownership.parse(ownership.text);
    expect(read.text).toBe(ownership.text);
    expect(read.shard).toEqual(shard);
    expect(read.rules?.text ?? null).toBe(rules);
  }
  expect(settingsOf(Ownership.parse("0/4 public.a='x'"))).toBe(`ROUTER_SHARD=0/4 ROUTER_SHARD_KEYS='public.a='\\''x'\\'''`);
  expect(() => Ownership.parse("nonsense")).toThrow(SyntaxError);
});
