import { expect, test } from "bun:test";
import { parseDemoOptions, UsageError } from "./demo-options.ts";

test("the defaults, and everything given", () => {
  expect(parseDemoOptions([])).toEqual({ seconds: null, changesPerSecond: 500, replicas: [] });
  const given = ["--seconds", "20", "--rate=50", "--replica", "postgres://u:p@h/db", "--replica", "sqlite:/tmp/x.db"];
  expect(parseDemoOptions(given)).toEqual({
    seconds: 20,
    changesPerSecond: 50,
    replicas: ["postgres://u:p@h/db", "sqlite:/tmp/x.db"],
  });
  expect(parseDemoOptions(["--seconds", "x", "--help"])).toBeNull();
});

test.each([
  [["--seconds", "soon"], '--seconds is "soon"'],
  [["--seconds", "-1"], "--seconds"],
  [["--rate", "0"], '--rate is "0"'],
  [["--rate", ""], '--rate is ""'],
  [["--replica", "oracle://u:secret@h/db"], 'scheme "oracle"'],
  [["--replica", "postgres://u:secret@:h:/db"], "--replica is no URL"],
  [["--frobnicate"], "--frobnicate"],
  [["20"], "20"],
])("refuses %p", (args, said) => {
  expect(() => parseDemoOptions(args)).toThrow(UsageError);
  expect(() => parseDemoOptions(args)).toThrow(said);
  expect(() => parseDemoOptions(args)).not.toThrow("secret");
});
