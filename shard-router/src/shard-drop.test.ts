import { describe, expect, test } from "bun:test";
import type { Op, ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import {
  batchesOf,
  batchSizes,
  comparableRows,
  type TableHistory,
  type TableKindName,
  tableHistory,
} from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { carryOutOr } from "../test/carry-out.ts";
import { coalesce } from "./coalesce.ts";
import { toMutations } from "./mutation.ts";
import { Ownership, type TableShare } from "./ownership.ts";
import { parseShardRules } from "./shard-rules.ts";

/** When what happens between the batches of a history. */
interface Course {
  readonly sizes: readonly number[];
  /** The batch before which the part is made smaller. */
  readonly narrowedAt: number;
  /** Whether what was read is dropped, and the rest is read, before each batch after that. */
  readonly steps: readonly boolean[];
}

/** A router by one share, and from `narrowedAt` on by a smaller one, while a command reads and drops what is given up; at last all of it. */
function applied(
  from: TableShare | null,
  to: TableShare,
  { schema, events }: Pick<TableHistory, "schema" | "events">,
  course: Course,
): readonly WireRow[] {
  const rows: WireRow[] = [];
  const seen = (row: WireRow): string => JSON.stringify([...schema.key, ...to.columns].map((name) => row[name]));
  let read: ReadonlySet<string> = new Set();
  const dropRead = (): void => void rows.splice(0, rows.length, ...rows.filter((row) => !read.has(seen(row))));
  const readForeign = (): void => {
    read = new Set(rows.filter((row) => !to.owns(row)).map(seen));
  };
  for (const [at, batch] of batchesOf(events, course.sizes).entries()) {
    const share = at < course.narrowedAt ? from : to;
    if (share === to && course.steps[at % course.steps.length]) {
      dropRead();
      readForeign();
    }
    const mine = share === null ? batch : batch.flatMap((event) => share.here(event) ?? []);
    const mutations = toMutations(schema, mine);
    carryOutOr(schema, rows, coalesce(schema, mutations), mutations);
  }
  readForeign();
  dropRead();
  return rows;
}

const courses: fc.Arbitrary<Course> = fc.record({
  sizes: batchSizes,
  narrowedAt: fc.nat({ max: 8 }),
  steps: fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
});

const shareOf = (index: number, count: number, rules: string | null, { schema }: TableHistory): TableShare | null =>
  new Ownership({ index, count }, rules === null ? null : parseShardRules(rules)).of(schema);

/** From one or two shards to three times as many: of each old one its first third stays where it is. */
function union(old: number, rules: string | null, history: TableHistory, course: Course): readonly WireRow[] {
  return Array.from({ length: 3 * old }, (_, index) => {
    const to = shareOf(index, 3 * old, rules, history) as TableShare;
    return applied(index < old ? shareOf(index, old, rules, history) : to, to, history, course);
  }).flat();
}

describe("shards of which some gave rows up in the middle have each row once, and together all of them", () => {
  const whole: readonly (readonly [TableKindName, string | null])[] = [
    ["keyOnly", null],
    ["keyOnly", "public.*=b"],
    ["full", null],
    ["full", "public.*=n"],
    ["keyless", "public.*=n"],
    ["keyless", "public.*=big"],
  ];
  test.each(whole)("%s by %s", (kind, rules) => {
    fc.assert(
      fc.property(tableHistory(kind), fc.constantFrom(1, 2), courses, (history, old, course) => {
        expect(comparableRows(union(old, rules, history, course))).toEqual(comparableRows(history.rows));
      }),
      { numRuns: 400 },
    );
  });

  // What is given up and not dropped yet must not complete a row that comes without its large columns.
  const partial: readonly (readonly [TableKindName, string | null])[] = [
    ["plain", null],
    ["composite", null],
    ["composite", "public.*=a"],
    ["numericKey", null],
  ];
  test.each(partial)("%s by %s, or a row that moves is missed where it goes: never is half of it there", (kind, rules) => {
    let [equal, missed] = [0, 0];
    fc.assert(
      fc.property(tableHistory(kind, { maxSteps: 12 }), fc.constantFrom(1, 2), courses, (history, old, course) => {
        try {
          expect(comparableRows(union(old, rules, history, course))).toEqual(comparableRows(history.rows));
          equal++;
        } catch (error) {
          if (!(error as Error).message.includes("a row that must exist is missing")) throw error;
          missed++;
        }
      }),
      { numRuns: 1_000 },
    );
    expect(equal).toBeGreaterThan(50);
    expect(missed).toBeGreaterThan(5);
  });
});

test("a row that was given up, and is there yet as it was, does not complete one that moves in without its large column", () => {
  const schema = tableSchema("t", { id: "integer", large: "text" });
  const [from, to] = [new Ownership(null, null).of(schema), new Ownership({ index: 0, count: 3 }, null).of(schema) as TableShare];
  const [own, foreign] = [true, false].map((ours) => [1, 2, 3, 4, 5, 6, 7, 8].find((id) => to.owns({ id }) === ours));
  const event = (op: Op, before: WireRow | null, after: WireRow | null): ReceivedEvent => ({
    ...{ op, before, after, schemaId: "", committedAtMs: 0, commitLsn: 1n, ordinal: 0, marks: null },
  });
  const events = [
    event("c", null, { id: foreign ?? 0, large: "old" }),
    event("u", null, { id: foreign ?? 0, large: "new" }),
    event("u", { id: foreign ?? 0 }, { id: own ?? 0 }),
  ];
  const course = { sizes: [1, 1, 1], narrowedAt: 1, steps: [false] };
  expect(() => applied(from, to, { schema, events }, course)).toThrow("a row that must exist is missing");
  const whole = [...events.slice(0, 2), event("u", { id: foreign ?? 0 }, { id: own ?? 0, large: "new" })];
  expect(applied(from, to, { schema, events: whole }, course)).toEqual([{ id: own ?? 0, large: "new" }]);
});
