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

test("where rows are divided, each partition's next message has one whenever a table with other schemas is announced", () => {
  const marks = new SchemaMarks("p");
  const divided = (table: string, identity: "default" | "full"): SchemaMessage => ({
    kind: "schema",
    schema: identifySchema({ schema: "public", table, oid: 16_400, columns: [], key: [], identity }),
    ...{ at: null, rewritten: false, partitions: 2 },
  });
  const taken = (): readonly boolean[] => [0, 1, 0, 1].map((partition) => marks.take(a, partition, 2));
  marks.announced([divided("a", "default")]);
  expect(taken()).toEqual([false, false, false, false]);
  marks.announced([divided("a", "full")]);
  expect(taken()).toEqual([true, true, false, false]);
  marks.announced([divided("a", "default")]);
  expect(taken()).toEqual([true, true, false, false]);
});

test("a drop says nothing of names", () => {
  const marks = new SchemaMarks("p");
  const at = { commitLsn: 1n, ordinal: 0 };
  marks.announced([{ kind: "dropped", oid: 16_400, schema: "public", table: "a", at }]);
  expect(marks.take(a)).toBe(false);
});
