import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { compareReplica, isEqual, type TableComparison } from "./canonical-state.ts";
import { canonicalFloat, compareOrder } from "./canonical-value.ts";
import type { LocalPostgres } from "./postgres.ts";
import { testPostgres, testReplicaPostgres } from "./servers.ts";

const database = "canonical";
const odd = `"we.ird ""T"" é"`;
const mainTables = `
  CREATE TYPE mood AS ENUM ('sad', 'happy');
  CREATE DOMAIN switch AS boolean;
  CREATE TABLE kinds (id bigint PRIMARY KEY, yes boolean, also switch, price numeric(10,2), f4 real, f8 double precision,
    at timestamptz, day date, doc jsonb, ref uuid, raw bytea, mood mood, tags text[], note text);
  CREATE TABLE keyless (word text, number double precision, code char(3));
  CREATE TABLE hosts (host inet PRIMARY KEY, net cidr, doc xml);
  CREATE TABLE ${odd} ("Key é" text, part integer, "va""lue" text, PRIMARY KEY ("Key é", part));
  CREATE SCHEMA other;
  CREATE TABLE other.t (id int PRIMARY KEY, yes boolean);
  CREATE TABLE skipped (id int PRIMARY KEY);`;
const mainRows = `
  INSERT INTO kinds VALUES (1, true, false, 19.90, 0.1, 1e21, '2026-01-02 03:04:05.678901+02', '2026-02-03', '{"b": 1, "a": 1.10}',
    '0b0e7a54-5b1c-4d2f-9a53-2f5d6c1c9a01', '\\x00ff41', 'happy', '{a,"b,c",NULL}', 'tab\there'),
    (10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (9, false, true, 0.00, -1.5, 1e-7, 'infinity', '-infinity', '[]', NULL, '', 'sad', '{}', '');
  INSERT INTO keyless VALUES ('twice', 0.5, 'a'), ('twice', 0.5, 'a'), (NULL, 1, NULL), ('b', NULL, NULL), ('💥', 2, ''), ('', 3, NULL);
  INSERT INTO ${odd} VALUES ('é', 1, 'x'), ('💥', 2, 'y'), ('', 3, NULL), ('z', 10, ''), ('z', 9, 'v');
  INSERT INTO hosts VALUES ('10.0.0.1', '10.0.0.1', '<?xml version="1.0"?><a/>'), ('10.0.0.0/8', '10.0.0.0/8', ''), ('::1', NULL, NULL);
  INSERT INTO other.t VALUES (1, true);
  INSERT INTO skipped VALUES (1)`;
const filter = "public.*,other.*,!public.skipped";

/** As a router would have written it. */
const sqliteTables = `
  CREATE TABLE kinds (id INTEGER PRIMARY KEY, yes INTEGER, also INTEGER, price TEXT, f4 REAL, f8 REAL, at TEXT, day TEXT, doc TEXT, ref TEXT, raw BLOB, mood TEXT, tags TEXT, note TEXT) STRICT;
  CREATE TABLE keyless (word TEXT, number REAL, code TEXT) STRICT;
  CREATE TABLE ${odd} ("Key é" TEXT, part INTEGER, "va""lue" TEXT, PRIMARY KEY ("Key é", part)) STRICT;
  CREATE TABLE hosts (host TEXT PRIMARY KEY, net TEXT, doc TEXT) STRICT;
  INSERT INTO hosts VALUES ('10.0.0.1', '10.0.0.1/32', '<a/>'), ('10.0.0.0/8', '10.0.0.0/8', ''), ('::1', NULL, NULL);
  CREATE TABLE other_t (id INTEGER PRIMARY KEY, yes INTEGER) STRICT;
  INSERT INTO kinds VALUES (1, 1, 0, '19.90', 0.1, 1e21, '2026-01-02 01:04:05.678901+00', '2026-02-03', '{"a": 1.10, "b": 1}',
    '0b0e7a54-5b1c-4d2f-9a53-2f5d6c1c9a01', x'00ff41', 'happy', '{a,"b,c",NULL}', 'tab\there'),
    (9, 0, 1, '0.00', -1.5, 1e-7, 'infinity', '-infinity', '[]', NULL, x'', 'sad', '{}', ''),
    (10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  INSERT INTO keyless VALUES ('', 3, NULL), ('twice', 0.5, 'a  '), (NULL, 1, NULL), ('💥', 2, '   '), ('b', NULL, NULL), ('twice', 0.5, 'a  ');
  INSERT INTO ${odd} VALUES ('z', 9, 'v'), ('💥', 2, 'y'), ('é', 1, 'x'), ('z', 10, ''), ('', 3, NULL);
  INSERT INTO other_t VALUES (1, 1)`;

const duckdbTables = `
  CREATE SCHEMA public; CREATE SCHEMA other; SET search_path = 'public';
  CREATE TABLE kinds (id BIGINT PRIMARY KEY, yes BOOLEAN, also BOOLEAN, price DECIMAL(10,2), f4 FLOAT, f8 DOUBLE, "at" TIMESTAMPTZ, day DATE, doc VARCHAR, ref UUID, raw BLOB, mood VARCHAR, tags VARCHAR, note VARCHAR);
  CREATE TABLE keyless (word VARCHAR, number DOUBLE, code VARCHAR);
  CREATE TABLE ${odd} ("Key é" VARCHAR, part INTEGER, "va""lue" VARCHAR, PRIMARY KEY ("Key é", part));
  CREATE TABLE hosts (host VARCHAR PRIMARY KEY, net VARCHAR, doc VARCHAR);
  CREATE TABLE other.t (id INTEGER PRIMARY KEY, yes BOOLEAN);
  INSERT INTO hosts VALUES ('10.0.0.1', '10.0.0.1/32', '<a/>'), ('10.0.0.0/8', '10.0.0.0/8', ''), ('::1', NULL, NULL);
  INSERT INTO kinds VALUES (1, true, false, '19.90', 0.1, 1e21, '2026-01-02 01:04:05.678901+00', '2026-02-03', '{"a": 1.10, "b": 1}',
    '0b0e7a54-5b1c-4d2f-9a53-2f5d6c1c9a01', '\\x00\\xffA', 'happy', '{a,"b,c",NULL}', 'tab\there'),
    (9, false, true, '0.00', -1.5, 1e-7, 'infinity', '-infinity', '[]', NULL, '', 'sad', '{}', ''),
    (10, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  INSERT INTO keyless VALUES ('', 3, NULL), ('twice', 0.5, 'a  '), (NULL, 1, NULL), ('💥', 2, '   '), ('b', NULL, NULL), ('twice', 0.5, 'a  ');
  INSERT INTO ${odd} VALUES ('z', 9, 'v'), ('💥', 2, 'y'), ('é', 1, 'x'), ('z', 10, ''), ('', 3, NULL);
  INSERT INTO other.t VALUES (1, true)`;

let main: LocalPostgres;
let replica: LocalPostgres;
let folder = "";
beforeAll(async () => {
  [main, replica] = await Promise.all([testPostgres(), testReplicaPostgres()]);
  folder = mkdtempSync(join(tmpdir(), "cascade-canonical-"));
  await main.createDatabase(database);
  await main.query(database, `${mainTables}; ${mainRows}`);
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await main.dropDatabase(database);
  await replica.dropDatabase(database);
});

interface Engine {
  readonly name: string;
  /** Makes a replica that is equal, then runs `damage`, and gives its URL. */
  make(damage: string): Promise<string>;
  /** A table of another schema. */
  readonly otherTable: string;
}

let files = 0;
const engines: readonly Engine[] = [
  {
    name: "PostgreSQL",
    otherTable: "other.t",
    make: async (damage) => {
      const url = await replica.createDatabase(database);
      // Another order, and text where the source has types of its own.
      const rows = mainRows.replace(/INSERT INTO kinds.*?;/s, "");
      await replica.query(database, `${mainTables.replace("mood mood", "mood text")}; ${rows}`);
      const kinds = mainRows.match(/INSERT INTO kinds.*?;/s)?.[0] ?? "";
      await replica.query(database, `${kinds} ${damage}`);
      return url;
    },
  },
  {
    name: "SQLite",
    otherTable: "other_t",
    make: async (damage) => {
      files += 1;
      const file = join(folder, `replica ${files}.db`);
      const file_ = new Database(file, { create: true });
      file_.run("PRAGMA journal_mode = WAL");
      file_.exec(`${sqliteTables}; ${damage}`);
      file_.close();
      return `sqlite://${file}`;
    },
  },
  {
    name: "DuckDB",
    otherTable: "other.t",
    make: async (damage) => {
      files += 1;
      const file = join(folder, `replica ${files}.duckdb`);
      const instance = await DuckDBInstance.create(file);
      const connection = await instance.connect();
      await connection.run(`${duckdbTables}; ${damage}`);
      connection.closeSync();
      instance.closeSync();
      return `duckdb://${file}`;
    },
  },
];

describe.each(engines)("$name", ({ make, otherTable }) => {
  const compare = async (damage: string): Promise<readonly TableComparison[]> =>
    compareReplica(main.url(database), await make(damage), filter);
  const wrong = async (damage: string): Promise<readonly TableComparison[]> =>
    (await compare(damage)).filter((table) => !isEqual(table));

  test("equal, by the source's types", async () => {
    expect(await compare("")).toEqual([
      { table: "other.t", rows: 1, missing: 0, extra: 0, different: 0 },
      { table: "public.hosts", rows: 3, missing: 0, extra: 0, different: 0 },
      { table: "public.keyless", rows: 6, missing: 0, extra: 0, different: 0 },
      { table: "public.kinds", rows: 3, missing: 0, extra: 0, different: 0 },
      { table: `public.${odd}`, rows: 5, missing: 0, extra: 0, different: 0 },
    ]);
  });

  test.each([
    ["boolean", "UPDATE kinds SET yes = NULL WHERE id = 1", `yes is "true" on main-db and NULL on the replica where id = "1"`],
    ["scale of a numeric", "UPDATE kinds SET price = '19.9' WHERE id = 1", /^price is "19.90"/],
    [
      "float",
      "UPDATE kinds SET f8 = 1.0000000000000002e21 WHERE id = 1",
      /^f8 is "1e\+21" on main-db and "1.0000000000000003e\+21"/,
    ],
    ["bytes", "UPDATE kinds SET raw = NULL WHERE id = 9", `raw is "" on main-db and NULL on the replica where id = "9"`],
    [
      "text",
      "UPDATE kinds SET note = 'tab here' WHERE id = 1",
      `note is "tab\\there" on main-db and "tab here" on the replica where id = "1"`,
    ],
  ])("one changed value: %s", async (kind, damage, said) => {
    const typed = kind === "scale of a numeric" ? `ALTER TABLE kinds ALTER price TYPE text; ${damage}` : damage;
    const [table, ...others] = await wrong(otherTable === "other.t" ? typed : damage);
    expect(others).toEqual([]);
    expect(table).toMatchObject({ table: "public.kinds", rows: 3, missing: 0, extra: 0, different: 1 });
    expect(table?.firstDifference ?? "").toMatch(said);
  });

  test("one missing row, and one extra, of an odd name", async () => {
    expect(await wrong(`DELETE FROM ${odd} WHERE part = 9`)).toMatchObject([
      { table: `public.${odd}`, missing: 1, extra: 0, different: 0, firstDifference: `missing: Key é = "z", part = "9"` },
    ]);
    expect(await wrong(`INSERT INTO ${odd} VALUES ('zz', 1, NULL)`)).toMatchObject([
      { table: `public.${odd}`, rows: 5, missing: 0, extra: 1, different: 0 },
    ]);
  });

  test("rows of a table without a key are counted", async () => {
    expect(await wrong("INSERT INTO keyless (word, number, code) VALUES ('twice', 0.5, 'a  ')")).toMatchObject([
      { missing: 0, extra: 1, different: 0 },
    ]);
    expect(await wrong("DELETE FROM keyless WHERE word IS NULL")).toMatchObject([{ missing: 1, extra: 0, different: 0 }]);
    expect(await wrong("UPDATE keyless SET number = 7 WHERE word = 'b'")).toMatchObject([{ missing: 1, extra: 1, different: 0 }]);
  });

  test("a missing table, and a missing column", async () => {
    expect(await wrong(`DROP TABLE ${otherTable}`)).toEqual([
      { table: "other.t", rows: 1, missing: 1, extra: 0, different: 0, firstDifference: "the replica has no such table" },
    ]);
    expect(await wrong(`ALTER TABLE ${otherTable} DROP COLUMN yes`)).toMatchObject([
      { table: "other.t", missing: 1, firstDifference: "the replica's table has no column yes" },
    ]);
  });
});

test("a large table is compared in bounded memory", async () => {
  const rows = 400_000;
  const make = `CREATE TABLE large AS SELECT id, repeat(md5(id::text), 8) AS filler FROM generate_series(1, ${rows}) id;
    ALTER TABLE large ADD PRIMARY KEY (id)`;
  await main.query(database, make);
  const url = await replica.createDatabase(database);
  await replica.query(database, `${make}; DELETE FROM large WHERE id = 150000`);
  Bun.gc(true);
  const before = process.memoryUsage().rss;
  expect(await compareReplica(main.url(database), url, "public.large")).toMatchObject([
    { rows, missing: 1, extra: 0, different: 0 },
  ]);
  // 100 MB of text on each side: held whole, as strings in rows, it would be several times that.
  expect((process.memoryUsage().rss - before) / 1e6).toBeLessThan(300);
  await main.query(database, "DROP TABLE large");
});

test("floats are numbers in value and order, texts bytes", () => {
  expect(["0.1", "1e+21", "-0", "NaN", "-Infinity"].map((text) => canonicalFloat(text))).toEqual([
    "0.1",
    "1e+21",
    "-0",
    "NaN",
    "-Infinity",
  ]);
  // One number of 32 bits, as two engines write it.
  expect(canonicalFloat("-2508284.2", "real")).toBe(canonicalFloat("-2508284.25", "real"));
  const table = {
    schema: "s",
    name: "t",
    keyLength: 2,
    columns: [
      { name: "f", kind: "float" },
      { name: "t", kind: "text" },
    ],
  } as const;
  const ordered = [
    [null, "x"],
    ["-Infinity", "x"],
    ["2", "z"],
    ["10", "é"],
    ["10", "\uffff"],
    ["10", "💥"],
    ["NaN", ""],
  ] as const;
  const shuffled = [...ordered].reverse().sort((one, other) => compareOrder(table, one, other));
  expect(shuffled).toEqual([...ordered]);
});
