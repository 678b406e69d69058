import { afterEach, expect, test } from "bun:test";
import { isDone, Life, MemoryLog } from "@cascade/cdc/test/snapshot-lab.ts";
import { cleanUp, type Lab, lab } from "@cascade/cdc/test/source-lab.ts";
import { TYPE_TABLE } from "@cascade/shard-router/src/types/type-table.ts";

afterEach(cleanUp);

/** A row that is copied looks as the same row does when the slot brings it: byte for byte, for every type and every literal. */

const COLUMNS = TYPE_TABLE.flatMap((row) =>
  Object.entries(row.types).map(([type, oid], at) => ({ name: `${type.replace(/\W+/g, "_")}_${at}_${oid}`, type, row })),
);

/** By key, what both say; fails when a row came one way only. */
async function bothWays(l: Lab): Promise<ReadonlyMap<string, { readonly slot: string; readonly copy: string }>> {
  const log = new MemoryLog();
  const life = await Life.start(l, { log, chunkRows: 7 });
  await life.until(isDone(log, "initial"));
  const rowsOf = (op: string) => new Map(life.events.filter((event) => event.op === op).map(({ key, after }) => [key, after]));
  const [slot, copy] = [rowsOf("c"), rowsOf("r")];
  expect([...copy.keys()].sort()).toEqual([...slot.keys()].sort());
  return new Map([...slot].map(([key, after]) => [key ?? "", { slot: after ?? "", copy: copy.get(key) ?? "" }]));
}

test("every type, every literal", async () => {
  const columns = COLUMNS.map(({ name, type }) => `"${name}" ${type}`).join(", ");
  const l = await lab(`CREATE TABLE matrix (id integer PRIMARY KEY, ${columns})`);
  const rows = Math.max(...COLUMNS.map(({ row }) => row.literals.length));
  for (let id = 0; id < rows; id++) {
    const values = COLUMNS.map(({ row, type }) => {
      const literal = row.literals[id];
      return literal === undefined ? "NULL" : `'${literal.replaceAll("'", "''")}'::${type}`;
    });
    await l.sql(`SET standard_conforming_strings = on; INSERT INTO matrix VALUES (${id}, ${values.join(", ")})`);
  }
  const both = await bothWays(l);
  expect(both.size).toBe(rows);
  for (const { slot, copy } of both.values()) expect(copy).toBe(slot);
});

test("types of one's own: enums, composites of nulls, domains, arrays, extensions', generated columns, odd names", async () => {
  const l = await lab(`
    CREATE TYPE mood AS ENUM ('so so', 'it''s "ok"', '😀'); CREATE TYPE pair AS (a integer, b text);
    CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE DOMAIN small AS positive; CREATE DOMAIN list AS integer[];
    CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN bytes AS bytea; CREATE DOMAIN yes AS boolean; CREATE DOMAIN five AS char(5);
    CREATE DOMAIN ratio AS double precision; CREATE DOMAIN feeling AS mood;
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION isn;
    CREATE TABLE own (id bigint PRIMARY KEY, m mood, ms mood[], p pair, d small, l list, c price, b bytes, y yes, f five, r ratio, fe feeling, h hstore,
      ci citext, lt ltree, i isbn, twice integer GENERATED ALWAYS AS (d * 2) STORED, "odd ""n'ame\\" text, ch char(3), o "char", reg regclass, js json)`);
  await l.sql(`INSERT INTO own VALUES
    (1, 'it''s "ok"', '{"so so",NULL}', '(1,"a ""q"", b")', 5, '[0:1]={1,2}', 12.3, '\\x00ff', true, 'ab', 'NaN', '😀', '"a"=>"1", "b"=>NULL', 'Ab', 'Top.Science', '978-0-393-04002-9',
      DEFAULT, E'\\u0001\\u001f\\u007f\\t\\n\\r\\b\\f\\\\ " / \u2028', 'a', 'x', 'own', '{ "a" : 1.10, "a": 2 }'),
    (2, NULL, '{}', '(,)', 1, '{{1,2},{3,NULL}}', -0.5, '', false, '', '-Infinity', NULL, '', 'a ', 'x', NULL, DEFAULT, '', '', '', 'pg_class', 'null');
    INSERT INTO own (id) VALUES (3)`);
  const both = await bothWays(l);
  expect(both.size).toBe(3);
  for (const { slot, copy } of both.values()) expect(copy).toBe(slot);
});

test("more columns than a function has arguments", async () => {
  const names = Array.from({ length: 400 }, (_, at) => `c${at}`);
  const l = await lab(`CREATE TABLE wide (id integer PRIMARY KEY, ${names.map((name) => `${name} integer`).join(", ")})`);
  await l.sql(`INSERT INTO wide (id, c7, c399) VALUES (1, 7, 399)`);
  for (const { slot, copy } of (await bothWays(l)).values()) expect(copy).toBe(slot);
});

/** Values in no order, and the types that keys can have. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  text: ["a", "B", "á", "Z", "", "aa", "a b", "ß", "😀", "\u0001", "a'\"\\"],
  'text COLLATE "C"': ["a", "B", "á", "Z", "", "aa"],
  "character(4)": ["a", "b", "", "a b"],
  citext: ["b", "A", "c", "ab", "AC"],
  mood: ["😀", "so so", "it's"],
  feeling: ["😀", "so so", "it's"],
  uuid: ["00000000-0000-0000-0000-000000000001", "ffffffff-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
  numeric: ["1", "-1", "1.50", "NaN", "Infinity", "-Infinity", "12345678901234567890.5", "0"],
  "double precision": ["1", "-1", "1e300", "NaN", "Infinity", "-Infinity", "0.1"],
  bytea: ["\\x00", "\\xff", "\\x", "\\x0001"],
  boolean: ["true", "false"],
  bigint: ["9223372036854775807", "-9223372036854775808", "0"],
  timestamptz: ["infinity", "-infinity", "2026-01-01 00:00:00+00", "0044-03-15 00:00:00+00 BC"],
  interval: ["1 day", "24:00:01", "-1 mon"],
  "integer[]": ["{2}", "{1,2}", "{1}", "{}", "{NULL}"],
  inet: ["10.0.0.1", "::1", "10.0.0.0/8"],
  bit: ["0", "1"],
  pair: ["(1,a)", "(1,)", "(,)", "(0,z)"],
  ltree: ["b", "a.b", "a"],
  money: ["1.50", "-3", "0"],
  small: ["3", "1", "2"],
  jsonb: ['{"a": 1}', "1", "null", '"x"'],
};

test.each(Object.keys(KEYS))("a key of type %s is read in its own order, each row once", async (type) => {
  const l = await lab(`
    CREATE TYPE mood AS ENUM ('so so', 'it''s', '😀'); CREATE DOMAIN feeling AS mood; CREATE TYPE pair AS (a integer, b text);
    CREATE DOMAIN small AS integer; CREATE EXTENSION citext; CREATE EXTENSION ltree;
    CREATE TABLE one (k ${type} PRIMARY KEY); CREATE TABLE two (a citext, k ${type}, n integer, PRIMARY KEY (a, k, n))`);
  const literals = (KEYS[type] ?? []).map((value) => `'${value.replaceAll("'", "''")}'`);
  await l.sql(`SET standard_conforming_strings = on; INSERT INTO one VALUES ${literals.map((value) => `(${value})`).join(", ")};
    INSERT INTO two SELECT a, k, n FROM one, (VALUES ('x'), ('Y')) AS x(a), generate_series(1, 2) AS n`);
  // As a key, NaN is nothing that wal2json 2.5 can send.
  await l.sql(`SELECT pg_replication_slot_advance('${l.slot}', pg_current_wal_lsn())`);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, chunkRows: 1 });
  await life.until(isDone(log, "initial", 2));
  for (const [table, rows] of [
    ["one", literals.length],
    ["two", 4 * literals.length],
  ] as const) {
    const copied = life.events.filter(({ op, table: { table: name } }) => op === "r" && name === table);
    expect(copied).toHaveLength(rows);
    expect(new Set(copied.map(({ key }) => key)).size).toBe(rows);
  }
});
