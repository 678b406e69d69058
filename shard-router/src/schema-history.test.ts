import { fullGC, heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { changed } from "../test/table-changer.ts";
import { SchemaHistory } from "./schema-history.ts";

const place = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
const a = tableSchema("a", { id: "integer" });
const [asB, asC] = [changed(a, { table: "b" }), changed(a, { table: "c" })];
const other = changed(a, { oid: 2 });

function history(...said: readonly (readonly [typeof a, bigint | null, boolean?])[]): SchemaHistory {
  const made = new SchemaHistory();
  for (const [schema, at, rewritten = false] of said)
    made.learn({ kind: "schema", schema, at: at === null ? null : place(at), rewritten });
  return made;
}

test("a table is what was said of it last, whatever it is called; a name is the last table's that took it and has it", () => {
  const known = history([a, 1n], [asB, 3n], [other, 4n]);
  expect(known.newest(a.oid)?.schema).toEqual(asB);
  expect(known.current(a)?.schema).toEqual(other);
  expect(known.current(asB)?.schema).toEqual(asB);
  expect(known.current(asC)).toBeNull();
  expect(known.newest(99)).toBeUndefined();
  expect(known.learn({ kind: "dropped", schema: "public", table: "b", oid: a.oid, at: place(5n) })).toEqual([
    expect.objectContaining({ table: "b" }),
    asB,
  ]);
  expect([known.newest(a.oid), known.current(asB)]).toEqual([null, null]);
  expect(known.last(a.oid)?.schema).toEqual(asB);
});

test("what is read again, by a consumer that joins its group anew, is kept once", () => {
  const known = new SchemaHistory();
  const read = (): number => {
    for (const [at, schema] of [a, asB, asC, a].entries())
      for (let n = 0; n < 50; n++)
        known.learn({
          kind: "schema",
          schema: { ...schema, oid: n },
          at: place(BigInt(at + 1)),
          rewritten: false,
        });
    fullGC();
    return heapStats().objectCount;
  };
  read();
  const once = read();
  for (let n = 0; n < 20; n++) read();
  expect(read() - once).toBeLessThan(1_000);
  expect(known.residence(7, a, place(9n))).toEqual({
    since: place(4n),
    others: [asB, asC].map((schema) => ({ ...schema, oid: 7 })),
  });
});

test("what is said again behind another of its place is the last one there", () => {
  const known = history([a, 1n], [asB, 5n], [asC, 5n], [asB, 5n]);
  expect(known.residence(a.oid, asB, place(9n))?.since).toEqual(place(5n));
  expect(known.residence(a.oid, asC, place(9n))).toBeNull();
});

test("what a cdc says late, which another has overtaken, is news of the past", () => {
  const known = history([a, 1n], [asB, 3n], [changed(other, { table: "c" }), 4n]);
  expect(known.learn({ kind: "schema", schema: a, at: place(1n), rewritten: false })).toEqual([]);
  expect([known.newest(a.oid)?.schema, known.current(asB)?.schema]).toEqual([asB, asB]);
  known.learn({ kind: "dropped", schema: "public", table: "b", oid: a.oid, at: place(5n) });
  known.learn({ kind: "schema", schema: asB, at: place(3n), rewritten: false });
  expect(known.newest(a.oid)).toBeNull();
  // An older cdc, which tells no places, has come back.
  known.learn({ kind: "schema", schema: asC, at: null, rewritten: false });
  expect(known.newest(a.oid)?.schema).toEqual(asC);
});

test("the tables that ever had a name, as they are now", () => {
  const known = history([a, 1n], [asB, 3n], [other, 4n]);
  expect(known.everNamed(a)?.map(({ schema }) => schema)).toEqual([asB, other]);
  known.learn({ kind: "dropped", schema: "public", table: "a", oid: other.oid, at: place(5n) });
  expect(known.everNamed(a)?.map(({ schema }) => schema)).toEqual([asB]);
  expect(known.everNamed(asC)).toBeNull();
});

test("since when a table has its name, and which others it had", () => {
  const known = history([a, 1n], [asB, 3n], [asC, 5n], [a, 7n], [a, 9n]);
  expect(known.residence(a.oid, a, place(2n))).toEqual({ since: place(1n), others: [asB, asC] });
  expect(known.residence(a.oid, asB, place(4n))).toEqual({ since: place(3n), others: [a, asC] });
  expect(known.residence(a.oid, a, place(8n))).toEqual({ since: place(7n), others: [asB, asC] });
  expect(known.residence(a.oid, a, place(10n))).toEqual({ since: place(7n), others: [asB, asC] });
  expect(history([a, 1n], [changed(a, { identity: "full" }), 2n]).residence(a.oid, a, place(3n))).toBeNull();
});

test("a schema that comes back begins where it was said last before a row; one of an older cdc at the row", () => {
  const known = history([a, 1n], [asB, 3n], [a, 5n]);
  expect([2n, 4n, 6n].map((at) => known.startOf(a, place(at)).commitLsn)).toEqual([1n, 1n, 5n]);
  expect(history([a, null]).startOf(a, place(4n))).toEqual(place(4n));
  expect([history([a, null]).beginningOf(a.oid), known.beginningOf(a.oid)]).toEqual([null, place(1n)]);
});

test("whether rows were written anew between two places", () => {
  const known = history([a, 1n], [asB, 3n, true], [asC, 5n]);
  expect(known.isRewritten(a.oid, place(1n), place(5n))).toBe(true);
  expect(known.isRewritten(a.oid, place(3n), place(5n))).toBe(false);
  expect(known.isRewritten(a.oid, place(1n), place(2n))).toBe(false);
});

test("where a table left a name last, up to a place; other tables that had it are not looked at", () => {
  const known = history([a, 1n], [asB, 3n], [a, 5n], [asC, 7n], [asB, 8n], [other, 8n], [changed(other, { table: "d" }), 9n]);
  const lastLeft = (name: typeof a, until: bigint) => known.lastLeft(a.oid, name, place(until));
  expect(lastLeft(a, 2n)).toBeNull();
  expect(lastLeft(a, 3n)).toEqual(place(3n));
  expect(lastLeft(a, 6n)).toEqual(place(3n));
  expect(lastLeft(a, 9n)).toEqual(place(7n));
  expect(lastLeft(asB, 9n)).toEqual(place(5n));
  expect(known.lastLeft(other.oid, other, place(9n))).toEqual(place(9n));
  expect(known.lastLeft(99, a, place(9n))).toBeNull();
  expect(history([a, 1n], [asB, null]).lastLeft(a.oid, a, place(9n))).toBeNull();
  expect([known.hasRenamed, history([a, 1n], [other, 2n]).hasRenamed]).toEqual([true, false]);
});
