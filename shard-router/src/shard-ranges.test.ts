import { expect, test } from "bun:test";
import fc from "fast-check";
import { canonicalNumber, compareNumbers, parseBound } from "./shard-ranges.ts";

const bounds: readonly (readonly [text: string, kind: string, read: string])[] = [
  ["007.50", "number", "7.5"],
  ["-0.0", "number", "0"],
  ["-5", "number", "-5"],
  ["2026-01-31", "date", "2026-01-31"],
  ["2024-02-29", "date", "2024-02-29"],
  ["2026-01-31 12:00", "time", "2026-01-31 12:00:00"],
  ["2026-01-31T12:00:01.500", "time", "2026-01-31 12:00:01.5"],
  ["2026-01-31 23:30:00Z", "time", "2026-01-31 23:30:00"],
  ["2026-01-31 23:30:00-01:30", "time", "2026-02-01 01:00:00"],
  ["2026-01-01 00:15:00.25+0545", "time", "2025-12-31 18:30:00.25"],
];
test.each(bounds)("%s is the %s %s", (text, kind, read) => expect(parseBound(text)).toMatchObject({ kind, text: read }));

test("what is neither a number nor a time that there is is none", () => {
  const texts = ["", "yesterday", "31.12.2026", "2026-1-1", "2026-02-29", "2026-13-01", "2026-01-31 24:00", "2026-01-31 12:60"];
  for (const text of [...texts, "1e5", "+1", "1.", ".5", "infinity", "NaN", "9999-12-31 23:59:59-02", "2026-01-31 12"])
    expect([text, parseBound(text)]).toEqual([text, null]);
});

test("decimals of any length are compared as numbers", () => {
  const decimal = fc.tuple(fc.boolean(), fc.bigInt({ min: 0n, max: 10n ** 30n }), fc.nat(20)).map(([negative, digits, scale]) => {
    const text = String(digits).padStart(scale + 1, "0");
    const whole = text.slice(0, text.length - scale);
    return {
      text: `${negative ? "-" : ""}${whole}${scale === 0 ? "" : `.${text.slice(-scale)}`}`,
      value: (negative ? -digits : digits) * 10n ** BigInt(20 - scale),
    };
  });
  fc.assert(
    fc.property(decimal, decimal, (one, other) => {
      const order = one.value < other.value ? -1 : Number(one.value > other.value);
      expect(Math.sign(compareNumbers(one.text, other.text))).toBe(order);
      expect(canonicalNumber(one.text) === canonicalNumber(other.text)).toBe(order === 0);
    }),
    { numRuns: 2000 },
  );
});
