import fc from "fast-check";

/** Texts that PostgreSQL's input functions read, awkward ones and random ones: few enough that values of different rows meet. */
export type Literals = fc.Arbitrary<string>;

/** Null to wal2json 2.5, and looked up by cdc: not in keys nor in tables without one, where it stops loudly (decision 0014). */
export const SPECIAL: readonly string[] = ["NaN", "Infinity", "-Infinity"];

export const of = (...texts: readonly string[]): Literals => fc.constantFrom(...texts);

/** Mostly the ones given. */
export const mixed = (given: readonly string[], random: Literals): Literals =>
  fc.oneof({ weight: 3, arbitrary: of(...given) }, { weight: 1, arbitrary: random });

export const integers = (min: bigint, max: bigint): Literals =>
  mixed([min, max, 0n, 1n, 2n].map(String), fc.bigInt({ min, max }).map(String));

const digits = (maxLength: number): Literals =>
  fc.array(fc.nat(9), { minLength: 1, maxLength, size: "max" }).map((found) => found.join(""));
const sign: Literals = of("", "-");

/** `integer` digits before the point and `fraction` after it at most. */
export const decimals = (integer: number, fraction: number): Literals =>
  fc.tuple(sign, digits(integer), fraction === 0 ? of("") : digits(fraction)).map(([minus, whole, part]) => {
    return `${minus}${whole}${part === "" ? "" : `.${part}`}`;
  });

export const numerics: Literals = mixed(
  ["0", "1", "1.0", "1.00", "10", "1e1", "-0.00", "1e-20", "1e40", "1234567890123456789012345678.0123456789", ...SPECIAL],
  decimals(40, 30),
);

/** -0 stops an SQLite replica's table, as it says: often enough here, and no more. */
const negativeZero = { weight: 1, arbitrary: of("-0") };

export const doubles: Literals = fc.oneof(
  {
    weight: 30,
    arbitrary: of(
      ...["0", "1", "0.1", "-1.5", "1e-5", "0.0001", "1e15", "1e20", "1.7976931348623157e308", "5e-324"],
      ...["2.2250738585072014e-308", "9007199254740993", "100000000000000.1", ...SPECIAL],
    ),
  },
  { weight: 10, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => String(value)) },
  negativeZero,
);

export const reals: Literals = fc.oneof(
  {
    weight: 30,
    arbitrary: of(
      ...["0", "1", "0.1", "-1.5", "1e-5", "123456", "1234567", "3.4028235e38", "1e-45", "1.17549435e-38", "16777217"],
      ...["999999.9", ...SPECIAL],
    ),
  },
  { weight: 10, arbitrary: fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => String(value)) },
  negativeZero,
);

/** PostgreSQL holds no NUL; a lone surrogate is no character. */
const anyText = (maxLength: number): Literals =>
  fc
    .string({ unit: "binary", maxLength })
    .map((text) => text.replaceAll("\0", "\u0001"))
    .filter((text) => text.isWellFormed());

/** Texts that differ in case, accents and trailing blanks alone, and what SQL, JSON and drivers may trip over. */
export const texts = (maxLength = 40): Literals =>
  mixed(
    [
      ...["", "a", "A", "á", "a ", "a  ", "a\u0301", "ａ", "é😀", "ß", "ss", "i", "İ", "ı", " a"],
      ...[
        "'",
        '"',
        "\\",
        "\\'",
        "--",
        "/*",
        "*/",
        "$1 ?",
        ":a",
        "$$",
        "\u0001",
        "\u001f\u007f",
        "\t\n\r",
        "\b\f",
        "\u2028\u2029",
      ],
      ...["NULL", "null", "{}", "[]", "{a}", "\\x00", "\\N", "0", "-0", "1.0", "1e5", "true", "t", "\ufeff", "\uffff", "%_"],
    ].filter((text) => [...text].length <= maxLength),
    anyText(maxLength),
  );

export const bytes: Literals = mixed(
  ["\\x", "\\x00", "\\x0000", "\\x00ff41", "\\x5c", "\\x27", "\\x22", "\\xbeef"],
  fc.uint8Array({ maxLength: 40 }).map((found) => `\\x${Buffer.from(found).toString("hex")}`),
);

const pad = (value: number, length = 2): string => String(value).padStart(length, "0");
const clock = (digits_: number): Literals =>
  fc
    .tuple(fc.nat(23), fc.nat(59), fc.nat(59), fc.nat(10 ** digits_ - 1))
    .map(([hour, minute, second, part]) => `${pad(hour)}:${pad(minute)}:${pad(second)}.${pad(part, digits_)}`);
const day = (lastYear: number): Literals =>
  fc.tuple(fc.integer({ min: -4712, max: lastYear }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 })).map(
    // Year 0 is 1 BC.
    ([year, month, date]) =>
      year > 0 ? `${pad(year, 4)}-${pad(month)}-${pad(date)}` : `${pad(1 - year, 4)}-${pad(month)}-${pad(date)} BC`,
  );
const withTime = (date: string, time: string): string =>
  date.endsWith(" BC") ? `${date.slice(0, -3)} ${time} BC` : `${date} ${time}`;

export const dates: Literals = mixed(
  ["2026-11-22", "2026-11-23", "infinity", "-infinity", "4713-01-01 BC", "0001-01-01", "5874897-12-31", "10000-01-01"],
  day(20_000),
);
export const times: Literals = mixed(["00:00:00", "24:00:00", "23:59:59.999999", "12:00:00", "12:00:00.5"], clock(6));
export const timesWithZone: Literals = mixed(
  ["12:00:00+00", "13:00:00+01", "12:00:00.5+13:45", "12:00:00-15:59:59", "24:00:00+00", "00:00:00+15:59"],
  clock(6).map((time) => `${time}-03:30`),
);
export const timestamps: Literals = mixed(
  [
    ...["2026-11-22 13:07:56.163379", "2026-11-22 13:07:56", "infinity", "-infinity", "4713-01-01 00:00:00 BC"],
    ...["294276-12-31 23:59:59.999999", "0044-03-15 12:00:00 BC", "1999-12-31 24:00:00", "1900-01-01 00:00:00.000001"],
  ],
  fc.tuple(day(20_000), clock(6)).map(([date, time]) => withTime(date, time)),
);
export const timestampsWithZone: Literals = mixed(
  ["2026-11-22 13:07:56.163379+05:30", "2026-11-22 07:37:56.163379+00", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC"],
  fc.tuple(day(20_000), clock(6)).map(([date, time]) => withTime(date, `${time}-08`)),
);
export const intervals: Literals = mixed(
  ["1 day", "24:00:00", "1 mon", "30 days", "1 year -2 mons +3 days 04:05:06.789", "-1 days", "0", "178000000 years"],
  fc
    .tuple(fc.integer({ min: -99, max: 99 }), fc.integer({ min: -99, max: 99 }), clock(6))
    .map(([months, days, time]) => `${months} mons ${days} days ${time}`),
);

const jsonTexts: readonly string[] = [
  '{"b": 1,  "b":2, "a" : 1.10}',
  '{"a": 1, "b": 2}',
  '{"a": 1.0, "b": 2}',
  "null",
  '"\\u00e9 \\" \\\\"',
  "[]",
  "{}",
  "123456789012345678901234567890.10",
  '{"__proto__": {"x": "💥"}}',
  " true ",
];
// jsonb takes neither NUL nor half a surrogate pair.
const anyJson: Literals = fc.json({ maxDepth: 2 }).filter((text) => text.isWellFormed() && !/\\u(?:0000|d[89a-f])/i.test(text));
export const jsons: Literals = mixed([...jsonTexts, "[1e400]"], anyJson);
export const jsonbs: Literals = mixed(jsonTexts, anyJson);
export const uuids: Literals = mixed(
  ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
  fc.uuid(),
);
export const bits = (minLength: number, maxLength: number): Literals =>
  fc.array(of("0", "1"), { minLength, maxLength }).map((found) => found.join(""));

/** An array literal; every element quoted, so that it may be anything. */
export const arrays = (elements: Literals, given: readonly string[] = []): Literals =>
  mixed(
    ["{}", "{NULL}", ...given],
    fc.array(fc.option(elements, { freq: 5 }), { maxLength: 4 }).map((found) => `{${found.map(element).join(",")}}`),
  );

const element = (text: string | null): string =>
  text === null ? "NULL" : `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
