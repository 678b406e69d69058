import { describe, expect, test } from "bun:test";
import { lastLine, succeeded, sumOf, tallyOf } from "./test-summary.ts";

const summary = (lines: readonly string[]): string => ["a.test.ts:", "(pass) one [1.00ms]", "", ...lines].join("\n");

describe("counts from bun test's output", () => {
  test("a run that passed", () => {
    const output = summary([
      " 12 pass",
      " 3 skip",
      " 1 todo",
      " 0 fail",
      " 40 expect() calls",
      "Ran 16 tests across 2 files. [1.20s]",
    ]);
    expect(tallyOf(output, 0)).toEqual({ passed: 12, failed: 0, skipped: 4 });
  });

  test("failed tests and errors outside of tests", () => {
    const output = summary([" 5 pass", " 2 fail", " 1 error", " 9 expect() calls", "Ran 7 tests across 2 files. [1.20s]"]);
    expect(tallyOf(output, 1)).toEqual({ passed: 5, failed: 2, skipped: 0 });
    const errorAlone = summary([" 5 pass", " 0 fail", " 1 error", "Ran 5 tests across 2 files. [1.20s]"]);
    expect(tallyOf(errorAlone, 1)).toEqual({ passed: 5, failed: 1, skipped: 0 });
  });

  test("colours don't hide them", () => {
    const output = summary(["\u001b[32m 5 pass\u001b[0m", "\u001b[31m 1 fail\u001b[0m", "Ran 6 tests across 1 file. [3.00ms]"]);
    expect(tallyOf(output, 1)).toEqual({ passed: 5, failed: 1, skipped: 0 });
  });

  test("what a test prints doesn't count", () => {
    const output = [
      "99 pass",
      "98 fail",
      ...Array(8).fill("noise"),
      " 1 pass",
      " 0 fail",
      "Ran 1 test across 1 file. [3.00ms]",
    ].join("\n");
    expect(tallyOf(output, 0)).toEqual({ passed: 1, failed: 0, skipped: 0 });
  });

  test("a crash is a failure, with and without a summary", () => {
    expect(tallyOf("a.test.ts:\npanic: Segmentation fault", null)).toEqual({ passed: 0, failed: 1, skipped: 0 });
    expect(tallyOf("", 0)).toEqual({ passed: 0, failed: 1, skipped: 0 });
    const output = summary([" 5 pass", " 0 fail", "Ran 5 tests across 1 file. [3.00ms]"]);
    expect(tallyOf(output, 139)).toEqual({ passed: 5, failed: 1, skipped: 0 });
  });
});

test("the last line names skipped tests only when there are some", () => {
  expect(lastLine({ passed: 7, failed: 0, skipped: 0 })).toBe("7 passed, 0 failed");
  expect(lastLine({ passed: 7, failed: 1, skipped: 2 })).toBe("7 passed, 1 failed, 2 skipped");
});

test("nothing passed is no success", () => {
  expect(succeeded(sumOf([]))).toBe(false);
  expect(succeeded({ passed: 0, failed: 0, skipped: 9 })).toBe(false);
  expect(succeeded({ passed: 1, failed: 1, skipped: 0 })).toBe(false);
  expect(succeeded({ passed: 1, failed: 0, skipped: 0 })).toBe(true);
});
