import { expect, test } from "bun:test";
import { lostValue } from "./lost-value.ts";

const [REAL, DOUBLE, NUMERIC] = [700, 701, 1700];
const values = (typeOid: number, nullable: boolean) =>
  ["NaN", "-Infinity", "1.50", "-1e-05", "1e+308", "true", null, undefined].map((now) => lostValue({ typeOid, nullable }, now));

test("a nullable column gets the special number that is there, else NULL", () => {
  const expected = ['"NaN"', '"-Infinity"', ...Array(6).fill("null")];
  for (const typeOid of [REAL, DOUBLE, NUMERIC]) expect(values(typeOid, true)).toEqual(expected);
});

test("a NOT NULL column gets the number that is there, and a special one when none is", () => {
  expect(values(DOUBLE, false)).toEqual([
    '"NaN"',
    '"-Infinity"',
    "1.50",
    "-1e-05",
    "1e+308",
    '"Infinity"',
    '"Infinity"',
    '"Infinity"',
  ]);
  expect(values(NUMERIC, false)).toEqual(['"NaN"', '"-Infinity"', '"1.50"', '"-1e-05"', '"1e+308"', '"NaN"', '"NaN"', '"NaN"']);
});
