import { expect, test } from "bun:test";
import fc from "fast-check";
import { comparePositions, formatLsn, parseLsn } from "./lsn.ts";

test("an LSN keeps every one of its 64 bits through text and back", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }), (lsn) => {
      expect(parseLsn(formatLsn(lsn))).toBe(lsn);
    }),
  );
  expect(parseLsn("0/15B9E10")).toBe(22781456n);
  expect(formatLsn(22781456n)).toBe("0/15B9E10");
  expect(parseLsn("FFFFFFFF/FFFFFFFF")).toBe(0xffff_ffff_ffff_ffffn);
});

test.each(["", "0", "0/", "/1", "0/1G", "0/123456789", " 0/1", "0/1\n"])("%p is not an LSN", (text) => {
  expect(() => parseLsn(text)).toThrow(SyntaxError);
});

test("positions order by commit LSN, then ordinal", () => {
  const at = (commitLsn: bigint, ordinal: number) => ({ commitLsn, ordinal });
  expect(comparePositions(at(1n, 9), at(2n, 0))).toBeLessThan(0);
  expect(comparePositions(at(2n, 1), at(2n, 0))).toBeGreaterThan(0);
  expect(comparePositions(at(2n ** 60n + 1n, 3), at(2n ** 60n + 1n, 3))).toBe(0);
  expect(comparePositions(at(2n ** 60n + 1n, 0), at(2n ** 60n, 0))).toBeGreaterThan(0);
});
