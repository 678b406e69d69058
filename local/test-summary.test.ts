import { describe, expect, test } from "bun:test";
import { failuresOf, lastLine, succeeded, sumOf, tallyOf } from "./test-summary.ts";

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

test("what failed is said again, from its error on, and cut where it is long", () => {
  const noise = Array.from({ length: 200 }, (_, at) => `line ${at}`);
  const output = [
    ...[
      "a.test.ts:",
      "before",
      "(pass) one [1.00ms]",
      "a log line",
      "error: it is wrong",
      "  at a.test.ts:1",
      "(fail) two [2.00ms]",
    ],
    ...["TypeError: no", ...noise, "(fail) three [2.00ms]", "(pass) four [1.00ms]", "only printed", "(fail) five [3.00ms]"],
    ...["", "3 tests failed:", "(fail) two [2.00ms]", "(fail) three [2.00ms]", "(fail) five [3.00ms]", "", " 2 pass", " 3 fail"],
  ];
  const [two, three, five, ...more] = failuresOf(output.join("\n"));
  expect(two).toBe("error: it is wrong\n  at a.test.ts:1\n(fail) two [2.00ms]");
  expect(three).toStartWith("TypeError: no\nline 0\n");
  expect(three).toEndWith("line 199\n(fail) three [2.00ms]");
  expect(three?.split("\n")).toHaveLength(82);
  expect(five).toBe("only printed\n(fail) five [3.00ms]");
  expect(more).toEqual([]);
  expect(failuresOf("a.test.ts:\n(pass) one [1.00ms]\n\n 1 pass")).toEqual([]);
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
