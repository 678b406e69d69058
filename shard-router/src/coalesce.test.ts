import { describe, expect, test } from "bun:test";
import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import {
  batchesOf,
  batchSizes,
  comparableRows,
  TABLE_KINDS,
  type TableKindName,
  tableHistory,
} from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { carryOut, carryOutOr } from "../test/carry-out.ts";
import { coalesce } from "./coalesce.ts";
import { runsOf } from "./dialects/sql.ts";
import { type Mutation, toMutations } from "./mutation.ts";
import { keyText, shapeOf } from "./row-shape.ts";

const schema = tableSchema("t", { id: "integer", a: "integer", b: "text" });
const put = (id: number, a = 0, b = ""): Mutation => ({ kind: "put", row: { id, a, b } });
const patch = (row: WireRow): Mutation => ({ kind: "patch", row });
const drop = (id: number): Mutation => ({ kind: "delete", key: { id } });
const move = (from: number, row: WireRow): Mutation => ({ kind: "move", from: { id: from }, row });
const truncate: Mutation = { kind: "truncate" };

describe("coalesce", () => {
  const cases: readonly (readonly [string, readonly Mutation[], readonly Mutation[]])[] = [
    ["the last put of a key wins", [put(1, 1), put(2), put(1, 2)], [put(1, 2), put(2)]],
    ["a put and its delete leave the delete", [put(1), drop(1)], [drop(1)]],
    ["a row that comes again is put", [drop(1), put(1)], [put(1)]],
    ["patches merge", [patch({ id: 1, a: 1 }), patch({ id: 1, b: "x" })], [patch({ id: 1, a: 1, b: "x" })]],
    [
      "a patch merges into its put",
      [put(1, 1, "x"), patch({ id: 1, a: null })],
      [{ kind: "put", row: { id: 1, a: null, b: "x" } }],
    ],
    [
      "deletes, then patches by their columns, then puts",
      [put(1), patch({ id: 2, a: 1 }), patch({ id: 3, b: "" }), patch({ id: 4, a: 2 }), drop(5)],
      [drop(5), patch({ id: 2, a: 1 }), patch({ id: 4, a: 2 }), patch({ id: 3, b: "" }), put(1)],
    ],
    ["a truncate drops what came before it", [put(1), move(2, { id: 3 }), truncate, put(4)], [truncate, put(4)]],
    ["a move of a row put here is a delete and a put", [put(1, 5, "x"), move(1, { id: 2, a: 6 })], [drop(1), put(2, 6, "x")]],
    [
      "moves of strangers run first",
      [put(9), move(1, { id: 2 }), patch({ id: 2, a: 1 })],
      [move(1, { id: 2 }), patch({ id: 2, a: 1 }), put(9)],
    ],
    ["a chain of moves keeps its order", [move(1, { id: 2 }), move(2, { id: 3 })], [move(1, { id: 2 }), move(2, { id: 3 })]],
    [
      "a move of a patched row comes after the patch",
      [patch({ id: 1, a: 1 }), move(1, { id: 2 })],
      [patch({ id: 1, a: 1 }), move(1, { id: 2 })],
    ],
    ["a move onto a deleted key comes after the delete", [drop(2), move(1, { id: 2 })], [drop(2), move(1, { id: 2 })]],
    [
      "a patch of a deleted row is left for the replica to refuse",
      [drop(1), patch({ id: 1, a: 1 })],
      [drop(1), patch({ id: 1, a: 1 })],
    ],
  ];
  test.each(cases)("%s", (_name, given, expected) => {
    expect(coalesce(schema, given)).toEqual([...expected]);
  });

  test("keeps the order of a table without a key", () => {
    const keyless = tableSchema("log", { n: "integer" }, { key: [] });
    const append = (n: number): Mutation => ({ kind: "append", row: { n } });
    const remove = (n: number): Mutation => ({ kind: "remove", row: { n } });
    const mutations = [append(1), append(1), remove(1), append(2)];
    expect(coalesce(keyless, mutations)).toEqual(mutations);
    expect(coalesce(keyless, [...mutations, truncate, append(3)])).toEqual([truncate, append(3)]);
  });

  test("does not confuse keys of several columns", () => {
    const pair = tableSchema("pair", { a: "text", b: "text" }, { key: ["a", "b"] });
    const rows = [
      { a: "1", b: "23" },
      { a: "12", b: "3" },
      { a: "1:2", b: "3" },
      { a: "", b: "123" },
      { a: "constructor", b: "" },
    ];
    const puts = rows.map((row): Mutation => ({ kind: "put", row }));
    expect(coalesce(pair, puts)).toHaveLength(rows.length);
  });
});

describe.each(Object.keys(TABLE_KINDS) as TableKindName[])("any history of table kind %s", (kind) => {
  test("coalesced in any batches leaves the source's rows, as one by one does", () => {
    fc.assert(
      fc.property(tableHistory(kind), batchSizes, (history, sizes) => {
        const oneByOne: WireRow[] = [];
        const coalesced: WireRow[] = [];
        for (const batch of batchesOf(history.events, sizes)) {
          const mutations = toMutations(history.schema, batch);
          carryOut(history.schema, oneByOne, mutations);
          const merged = coalesce(history.schema, mutations);
          expectOneStatementPerRun(history.schema, merged);
          carryOutOr(history.schema, coalesced, merged, mutations);
        }
        expect(comparableRows(oneByOne)).toEqual(comparableRows(history.rows));
        expect(comparableRows(coalesced)).toEqual(comparableRows(history.rows));
      }),
      { numRuns: 1000 },
    );
  });
});

test("rows that come whole may be replayed from anywhere", () => {
  fc.assert(
    fc.property(tableHistory("full"), fc.nat(), batchSizes, ({ schema: table, events, rows: expected }, from, sizes) => {
      const rows: WireRow[] = [];
      for (const batch of batchesOf([...events, ...events.slice(from % (events.length + 1))], sizes)) {
        carryOut(table, rows, coalesce(table, toMutations(table, batch)));
      }
      expect(comparableRows(rows)).toEqual(comparableRows(expected));
    }),
    { numRuns: 300 },
  );
});

/** What lets a dialect make one set-based statement of a run: no key twice. */
function expectOneStatementPerRun(table: TableSchema, merged: readonly Mutation[]): void {
  if (table.key.length === 0) return;
  const shape = shapeOf(table);
  for (const run of runsOf(shape, merged)) {
    if (run.kind === "truncate") continue;
    const keys = [...run.rows, ...("from" in run ? run.from : [])].map((row) => keyText(shape, row));
    expect(new Set(keys).size).toBe(keys.length);
  }
}

test("of patches into one row the strictest says whether the row must be there", () => {
  const loose = (row: WireRow): Mutation => ({ kind: "patch", row, mayMiss: true });
  expect(coalesce(schema, [loose({ id: 1, a: 1 }), loose({ id: 1, b: "2" })])).toEqual([loose({ id: 1, a: 1, b: "2" })]);
  expect(coalesce(schema, [loose({ id: 1, a: 1 }), patch({ id: 1, b: "2" })])).toEqual([patch({ id: 1, a: 1, b: "2" })]);
});
