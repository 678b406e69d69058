import { expect, test } from "bun:test";
import { parseSnapshot, sees } from "./snapshot.ts";

test("a snapshot sees what ended before it, and nothing that was under way or came later", () => {
  const snapshot = parseSnapshot("10:20:10,15");
  expect([9, 10, 14, 15, 19, 20, 21].map((txId) => sees(snapshot, txId))).toEqual([true, false, true, false, true, false, false]);
  expect(sees(parseSnapshot("732:732:"), 731)).toBe(true);
});

test("the WAL's 32 bits mean the nearest id, on both sides of a wraparound", () => {
  const epoch = 0x5_0000_0000n;
  const after = parseSnapshot(`${epoch + 3n}:${epoch + 9n}:${epoch + 5n}`);
  expect([0xffff_fff0, 3, 5, 8, 9, 12].map((txId) => sees(after, txId))).toEqual([true, true, false, true, false, false]);
  const before = parseSnapshot(`${epoch - 9n}:${epoch - 3n}:${epoch - 5n}`);
  expect([0xffff_fff0, 0xffff_fffb, 0xffff_fffd, 3, 5].map((txId) => sees(before, txId))).toEqual([
    true,
    false,
    false,
    false,
    false,
  ]);
});

test("another text is refused", () => {
  expect(() => parseSnapshot("")).toThrow(SyntaxError);
});
