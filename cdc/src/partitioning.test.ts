import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import type { ChangeEvent, EventTable, WireRow } from "@cascade/shared/change-event";
import { canonicalNumeric } from "@cascade/shared/key-equality";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { Partitioning } from "./partitioning.ts";

const COUNT = 4;

function labOf(schema: TableSchema) {
  const partitioning = new Partitioning();
  partitioning.learn(schema);
  const table: EventTable = { schema: "public", table: schema.table, topic: "p.public.t", schemaId: schema.id };
  const keyOf = (row: WireRow) => JSON.stringify(Object.fromEntries(schema.key.map((name) => [name, row[name]])));
  const event = (op: ChangeEvent["op"], before: WireRow | null, after: WireRow | null): ChangeEvent => ({
    ...{ op, table, transaction: { txId: 1, commitLsn: 1n, committedAtMs: 0 }, ordinal: 0, lsn: 1n },
    key: schema.key.length === 0 || op === "t" ? null : keyOf((after ?? before) as WireRow),
    before: before === null ? null : JSON.stringify(before),
    after: after === null ? null : JSON.stringify(after),
  });
  const place = (op: ChangeEvent["op"], before: WireRow | null, after: WireRow | null) =>
    partitioning.place(event(op, before, after), COUNT);
  return { place, of: (row: WireRow) => place("c", null, row)[0]?.partition ?? -1 };
}

/** As docs/scaling.md says it. */
const md5Part = (text: string): number => Number.parseInt(createHash("md5").update(text).digest("hex").slice(0, 8), 16) % COUNT;

test("rows go where md5 of their key's text says, whatever the event", () => {
  const { place, of } = labOf(tableSchema("t", { id: "bigint", v: "text" }));
  fc.assert(
    fc.property(fc.bigInt(), (id) => {
      const row = { id: String(id), v: "x" };
      expect(of(row)).toBe(md5Part(String(id)));
      for (const op of ["c", "r", "u"] as const)
        expect(place(op, null, row).map(({ partition }) => partition)).toEqual([of(row)]);
      expect(place("d", { id: String(id) }, null).map(({ partition }) => partition)).toEqual([of(row)]);
    }),
  );
  const pair = labOf(tableSchema("t", { a: "integer", b: "text" }, { key: ["b", "a"] }));
  expect(pair.of({ a: 7, b: "é\n" })).toBe(md5Part("é\n\x1f7"));
});

test("keys that are equal to an engine are in one partition, however main-db writes them", () => {
  const amounts = labOf(tableSchema("t", { amount: "numeric", v: "text" }));
  fc.assert(
    fc.property(fc.integer(), fc.nat(9), (whole, zeros) => {
      const text = `${whole}.${"0".repeat(zeros + 1)}`;
      expect(amounts.of({ amount: text, v: "" })).toBe(amounts.of({ amount: canonicalNumeric(text), v: "" }));
      // So such an update stays one.
      expect(amounts.place("u", { amount: text }, { amount: String(whole), v: "" })).toHaveLength(1);
    }),
  );
  const floats = labOf(tableSchema("t", { f: "double precision", v: "text" }));
  expect(floats.of({ f: -0, v: "" })).toBe(floats.of({ f: 0, v: "" }));
});

test.each([
  ["without a key", tableSchema("t", { id: "integer", v: "text" }, { key: [] })],
  ["whose keys may look different and be equal", tableSchema("t", { id: "interval", v: "text" })],
])("a table %s stays in one partition", (_, schema) => {
  const { place } = labOf(schema);
  const ids = ["1 day", "24:00:00", "2 days", "3 days", "4 days", "5 days"];
  expect(new Set(ids.flatMap((id) => place("c", null, { id, v: "x" })).map(({ partition }) => partition))).toEqual(new Set([0]));
  expect(place("u", { id: "1 day" }, { id: "2 days", v: "x" })).toHaveLength(1);
});

test("a truncate goes to every partition", () => {
  const { place } = labOf(tableSchema("t", { id: "integer", v: "text" }));
  const placed = place("t", null, null);
  expect(placed.map(({ partition }) => partition)).toEqual([0, 1, 2, 3]);
  // Each is a message of its own, with marks of its own.
  expect(new Set(placed.map(({ event }) => event)).size).toBe(COUNT);
});

test("an update to a key of another partition is told there, and to the old one as a delete", () => {
  const { place, of } = labOf(tableSchema("t", { id: "integer", v: "text", w: "text" }));
  const other = [2, 3, 4, 5, 6, 7].find((id) => of({ id, v: "", w: "" }) !== of({ id: 1, v: "", w: "" })) as number;
  const [from, to] = [of({ id: 1, v: "", w: "" }), of({ id: other, v: "", w: "" })];
  const whole = place("u", { id: 1 }, { id: other, v: "x", w: "y" });
  expect(whole.map(({ partition, event: { op, key, before, after } }) => ({ partition, op, key, before, after }))).toEqual([
    { partition: from, op: "d", key: '{"id":1}', before: '{"id":1}', after: null },
    { partition: to, op: "u", key: `{"id":${other}}`, before: '{"id":1}', after: `{"id":${other},"v":"x","w":"y"}` },
  ]);
  const marksOf = (placed: typeof whole) => placed.map(({ event }) => [event.table.movedFrom, event.table.movedTo]);
  expect(marksOf(whole)).toEqual([
    [undefined, undefined],
    [from, undefined],
  ]);
  // What it lacks is in the replica's old row alone, which must wait.
  const partial = place("u", { id: 1 }, { id: other, v: "x" });
  expect(marksOf(partial)).toEqual([
    [undefined, to],
    [from, undefined],
  ]);
  // The old row has it all under REPLICA IDENTITY FULL.
  expect(marksOf(place("u", { id: 1, v: "a", w: "b" }, { id: other, v: "x" }))).toEqual(marksOf(whole));
});
