import { expect, test } from "bun:test";
import type { ColumnSchema } from "@cascade/shared/table-schema";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { event } from "../test/replica-labs.ts";
import { changed } from "../test/table-changer.ts";
import { mapOldRows } from "./old-rows.ts";

const from = tableSchema("t", { id: "integer", a: "text", f: "double precision", gone: "text" });
const [id, a, f] = from.columns as readonly [ColumnSchema, ColumnSchema, ColumnSchema];
const added = columnSchema("n", "integer", { attnum: 9, missing: 7 });

const rowsOf = (to: typeof from, ...events: Parameters<typeof mapOldRows>[2]) =>
  mapOldRows(from, to, events).events.map(({ before, after }) => [before, after]);

test("columns go by attnum; a new row gets what older rows have in a new column, an update leaves it", () => {
  const to = changed(from, { columns: [{ ...id, name: "a" }, { ...a, name: "id" }, f, added], key: ["a"] });
  const row = { id: 1, a: "x", f: 0.5, gone: "g" };
  expect(rowsOf(to, event("c", null, row), event("u", { id: 1 }, row), event("d", { id: 1 }, null))).toEqual([
    [null, { a: 1, id: "x", f: 0.5, n: 7 }],
    [{ a: 1 }, { a: 1, id: "x", f: 0.5 }],
    [{ a: 1 }, null],
  ]);
  expect(mapOldRows(from, to, []).otherKey).toBe(false);
});

test("a row of a table without a key is whole, before and after", () => {
  const keyless = changed(from, { key: [], identity: "full", columns: [a] });
  const to = changed(keyless, { columns: [a, added] });
  const { events } = mapOldRows(keyless, to, [event("u", { a: "x" }, { a: "y" })]);
  expect([events[0]?.before, events[0]?.after]).toEqual([
    { a: "x", n: 7 },
    { a: "y", n: 7 },
  ]);
});

test("a value whose type has changed is written as the new one, or refused without being shown", () => {
  const to = changed(from, {
    columns: [
      { ...id, type: "bigint", typeOid: 20 },
      { ...a, type: "integer", typeOid: 23 },
      { ...f, type: "text", typeOid: 25 },
    ],
  });
  expect(rowsOf(to, event("c", null, { id: 1, a: "12", f: 1e20, gone: null }))).toEqual([[null, { id: "1", a: 12, f: "1e+20" }]]);
  expect(rowsOf(to, event("c", null, { id: 1, a: null, f: null, gone: null }))).toEqual([[null, { id: "1", a: null, f: null }]]);
  const refused = () => rowsOf(to, event("c", null, { id: 1, a: "secret", f: 1, gone: null }));
  expect(refused).toThrow(/column a became integer \(it was text\)/);
  expect(refused).not.toThrow(/secret/);
});

test("rows found by another key are found by its columns' names of now; by a dropped one they are refused", () => {
  const to = changed(from, { columns: [{ ...id, name: "i" }, a, f], key: ["a"] });
  expect(mapOldRows(from, to, [])).toMatchObject({ otherKey: true, schema: { key: ["i"] } });
  expect(() => mapOldRows(from, changed(from, { columns: [a], key: ["a"] }), [])).toThrow(/found by column id/);
});
