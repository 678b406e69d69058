import { expect, test } from "bun:test";
import { JsonBytes } from "@cascade/shared/json-bytes";
import fc from "fast-check";
import { WalReader, type WalRow } from "./wal2json.ts";

/** Every message stands where the one before it stood. */
const page = Buffer.alloc(4096);

function namesOf(reader: WalReader, schema: string, table: string): readonly string[] {
  const text = `{"action":"T","xid":1,"lsn":"0/1","schema":${JSON.stringify(schema)},"table":${JSON.stringify(table)}}`;
  const row = reader.read(new JsonBytes(page, 0, page.write(text))) as WalRow;
  return [row.schema, row.table];
}

const name = fc.oneof(
  fc.constantFrom("o", "o2", "o\\", 'o"', 'o","table":"o', "é", "😀", "\n", ""),
  fc.string({ unit: "binary", maxLength: 63 }).map((it) => it.toWellFormed()),
);

test("names are those of their own message, whatever came before it", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(name, name), { minLength: 1, maxLength: 8 }),
      fc.array(fc.nat(7), { maxLength: 40 }),
      (names, turns) => {
        const reader = new WalReader();
        for (const turn of turns) {
          const [schema, table] = names[turn % names.length] as [string, string];
          expect(namesOf(reader, schema, table)).toEqual([schema, table]);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("two names of one hash are told apart", () => {
  const reader = new WalReader();
  for (const table of ["t62vu", "tduea", "t62vu"]) expect(namesOf(reader, "public", table)).toEqual(["public", table]);
});

test("names of more tables than are remembered stay right", () => {
  const reader = new WalReader();
  for (const round of [0, 1])
    for (let i = 0; i < 9_000; i++) expect(namesOf(reader, `s${i % 3}`, `t${i + round}`)).toEqual([`s${i % 3}`, `t${i + round}`]);
});
