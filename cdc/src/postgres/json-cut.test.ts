import { expect, test } from "bun:test";
import { JsonBytes } from "@cascade/shared/json-bytes";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { endOfString, endOfValue } from "./json-cut.ts";
import { TableDecoder } from "./table-decoder.ts";
import { WalReader, type WalRow } from "./wal2json.ts";

/** Runs of what matters to a string's end, around where the search within the engine takes over, and long ones. */
const part = fc
  .tuple(
    fc.oneof(fc.nat(4), fc.integer({ min: 40, max: 55 }), fc.constant(70_000)),
    fc.constantFrom("a", "\\", '"', "é", "😀", ","),
  )
  .map(([count, character]) => character.repeat(count));
const json = fc.oneof(
  { weight: 4, arbitrary: fc.array(part, { maxLength: 4 }).map((parts) => JSON.stringify(parts.join(""))) },
  { weight: 1, arbitrary: fc.constantFrom("null", "true", "-1.5e+100", "0") },
);
/** What comes behind: the bytes of another message, or what a page held before. */
const behind = fc.constantFrom(
  "",
  '"',
  '\\"',
  "]",
  "}",
  ",",
  '{"action":"I"',
  '"}],"identity":[{"name":"id","typeoid":23,"value":1}]}',
);

test("a value ends where it ends, whatever comes behind it", () => {
  fc.assert(
    fc.property(json, fc.string({ unit: "binary", maxLength: 5 }), behind, (value, before, after) => {
      const start = Buffer.byteLength(before);
      const bytes = Buffer.from(`${before}${value},${after}`);
      const end = start + Buffer.byteLength(value);
      expect(endOfValue(bytes, start, bytes.length)).toBe(end);
      expect(endOfValue(bytes, start, end + 1)).toBe(end);
      if (value.startsWith('"')) expect(endOfString(bytes, start, end)).toBe(end);
    }),
    { numRuns: 500 },
  );
});

test("a string whose message ends before it does is refused, though the bytes behind would end it", () => {
  fc.assert(
    fc.property(json, fc.nat(), behind, (value, cut, after) => {
      fc.pre(value.startsWith('"'));
      const whole = Buffer.from(value);
      const end = cut % whole.length;
      const bytes = Buffer.concat([whole.subarray(0, end), Buffer.from(after)]);
      expect(() => endOfString(bytes, 0, end)).toThrow("that this version of Cascade does not know");
      expect(() => endOfValue(whole, 0, end)).toThrow("that this version of Cascade does not know");
    }),
    { numRuns: 500 },
  );
});

const schema = tableSchema("o", { id: "integer", v: "text" });
const walColumns = schema.columns.map(({ name, typeOid }) => ({ name, declaredTypeOid: typeOid }));
const AT = '"lsn":"0/1618DB8","schema":"public","table":"o"';
const ID = '{"name":"id","typeoid":23,"value":7}';
const LINES = [
  `{"action":"I",${AT},"columns":[${ID},{"name":"v","typeoid":25,"value":"\\"}],"}]}`,
  `{"action":"U",${AT},"columns":[${ID},{"name":"v","typeoid":25,"value":null}],"identity":[${ID}]}`,
  `{"action":"U",${AT},"columns":[],"identity":[${ID}]}`,
  `{"action":"D",${AT},"identity":[${ID}]}`,
];

/** What is made of it, or the error's code. */
function outcome(bytes: Buffer, end: number): string {
  try {
    const row = new TableDecoder({ schema, topic: "app.public.o", walColumns }, false).decode(
      new WalReader().read(new JsonBytes(bytes, 0, end)) as WalRow,
    );
    return row === null ? "does not fit" : [row.key, row.before, row.after].join();
  } catch (error) {
    return String((error as { readonly code?: string }).code);
  }
}

test.each(LINES)("what is made of a message cut off anywhere does not depend on the bytes behind it: %s", (line) => {
  const whole = Buffer.from(line);
  for (let end = 0; end <= whole.length; end++) {
    const alone = outcome(whole.subarray(0, end), end);
    expect(outcome(whole, end)).toBe(alone);
    for (const after of ["]", "}", '"', ",", "I", whole.toString()])
      expect(outcome(Buffer.concat([whole.subarray(0, end), Buffer.from(after)]), end)).toBe(alone);
    // All but the last brace is there where it is taken.
    if (end < whole.length - 1) expect(alone).toMatch(/^(?:UNKNOWN_WAL_MESSAGE|KEY_UNREAD|does not fit)$/);
  }
});
