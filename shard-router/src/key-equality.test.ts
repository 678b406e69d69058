import { expect, test } from "bun:test";
import { keyClassOf } from "@cascade/shared/key-equality";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { coalesce } from "./coalesce.ts";
import type { Mutation } from "./mutation.ts";

const classes = (type: string, values: readonly (string | number)[]): number => {
  const keyClass = keyClassOf(tableSchema("t", { id: type, v: "integer" }));
  if (keyClass === null) throw new Error("only the same text is the same key");
  return new Set(values.map((id) => keyClass({ id, v: 1 }))).size;
};

test("numerics of one value are of one class, however many zeros they are written with", () => {
  expect(classes("numeric", ["1", "1.0", "1.00"])).toBe(1);
  expect(classes("numeric", ["0", "0.00", "-0"])).toBe(1);
  expect(classes("numeric", ["10", "1", "100", "0.1", "0.01", "1.01", "-1", "NaN"])).toBe(8);
});

test("so are zero and negative zero, and texts whose blanks do not count", () => {
  expect(classes("double precision", [0, -0])).toBe(1);
  expect(classes("double precision", [0, 1, "NaN"])).toBe(3);
});

test("types whose texts tell the values apart need no class", () => {
  for (const type of ["integer", "bigint", "text", "uuid", "boolean"]) {
    expect(keyClassOf(tableSchema("t", { id: type, v: "integer" }))).toBeNull();
  }
});

test("a deleted key that comes back in another way is deleted first", () => {
  const schema = tableSchema("t", { id: "numeric", n: "integer", big: "text" });
  const merged = coalesce(schema, [
    { kind: "put", row: { id: "2", n: 0, big: "" } },
    { kind: "delete", key: { id: "2" } },
    { kind: "move", from: { id: "0" }, row: { id: "2.0", n: 0 } },
  ] satisfies Mutation[]);
  expect(merged.map(({ kind }) => kind)).toEqual(["delete", "move"]);
});
