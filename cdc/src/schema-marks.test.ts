import { expect, test } from "bun:test";
import { identifySchema, type SchemaMessage } from "@cascade/shared/table-schema";
import { SchemaMarks } from "./schema-marks.ts";

const named = (table: string, oid = 16_400): SchemaMessage => ({
  kind: "schema",
  schema: identifySchema({ schema: "public", table, oid, columns: [], key: [], identity: "default" }),
  at: null,
  rewritten: false,
});
const [a, b] = ["p.public.a", "p.public.b"] as const;

test("a table that keeps its name has no mark", () => {
  const marks = new SchemaMarks("p");
  marks.announced([named("a")]);
  marks.announced([named("b", 16_401)]);
  marks.announced([named("a")]);
  expect([marks.take(a), marks.take(b)]).toEqual([false, false]);
});

test("the next message of each of its topics has one, once, after a rename and after the return", () => {
  const marks = new SchemaMarks("p");
  marks.announced([named("a")]);
  marks.announced([named("b")]);
  expect([marks.take(b), marks.take(b), marks.take(a), marks.take(a)]).toEqual([true, false, true, false]);
  marks.announced([named("a")]);
  expect([marks.take(a), marks.take(a)]).toEqual([true, false]);
});

test("a drop says nothing of names", () => {
  const marks = new SchemaMarks("p");
  const at = { commitLsn: 1n, ordinal: 0 };
  marks.announced([{ kind: "dropped", oid: 16_400, schema: "public", table: "a", at }]);
  expect(marks.take(a)).toBe(false);
});
