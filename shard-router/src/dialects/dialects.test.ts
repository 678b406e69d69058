import { describe, expect, test } from "bun:test";
import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type { Dialect, DialectName, ReplicaTable, Statement } from "../dialect.ts";
import type { Mutation } from "../mutation.ts";
import { duckdbDialect, duckdbTableName } from "./duckdb.ts";
import { postgresDialect, postgresTableName } from "./postgres.ts";
import { quote } from "./sql.ts";
import { sqliteDialect } from "./sqlite.ts";
import { flatTableName } from "./table-names.ts";

/** What the dialects say, side by side; MySQL and MariaDB are beside each other in mysql.test.ts, and all in test/corpus.test.ts. */

type Compared = Exclude<DialectName, "mysql" | "mariadb">;

const dialects: Readonly<Record<Compared, Dialect>> = {
  postgres: postgresDialect,
  sqlite: sqliteDialect,
  duckdb: duckdbDialect,
};
const sqlNames: Readonly<Record<Compared, (schema: TableSchema) => string>> = {
  postgres: postgresTableName,
  sqlite: (schema) => quote(flatTableName(schema)),
  duckdb: duckdbTableName,
};

function freshTable(dialect: Compared, source: TableSchema, referenced = false): ReplicaTable {
  return { source, sqlName: sqlNames[dialect](source), columns: dialects[dialect].columnsOf(source), referenced };
}

type Said = Readonly<Record<Compared, readonly Statement[]>>;

function say(source: TableSchema, mutations: readonly Mutation[]): Said {
  const rendered = (name: Compared) => dialects[name].render(freshTable(name, source), mutations);
  return { postgres: rendered("postgres"), sqlite: rendered("sqlite"), duckdb: rendered("duckdb") };
}

/** One statement of each dialect, its text on one line. */
function sayOne(source: TableSchema, mutations: readonly Mutation[]): Readonly<Record<Compared, Statement>> {
  const { postgres, sqlite, duckdb } = say(source, mutations);
  expect([postgres.length, sqlite.length, duckdb.length]).toEqual([1, 1, 1]);
  return { postgres: postgres[0] as Statement, sqlite: sqlite[0] as Statement, duckdb: duckdb[0] as Statement };
}

const orders = tableSchema("orders", { id: "bigint", qty: "integer", price: "numeric(10,2)", raw: "bytea", tags: "text[]" });
const full = { id: "1", qty: 2, price: "3.50", raw: "AP9B", tags: "{a}" };
const bytes = new Uint8Array([0, 255, 65]);

describe("a statement", () => {
  test("put", () => {
    const { postgres, sqlite, duckdb } = sayOne(orders, [
      { kind: "put", row: full },
      { kind: "put", row: { ...full, id: "9007199254740993", raw: null } },
    ]);
    expect(postgres).toEqual({
      text:
        'INSERT INTO "public"."orders" AS r ("id", "qty", "price", "raw", "tags") ' +
        `OVERRIDING SYSTEM VALUE SELECT x."id", x."qty", x."price", decode(x."raw", 'base64'), x."tags"::text[] ` +
        'FROM json_to_recordset($1::text::json) AS x("id" bigint, "qty" integer, "price" numeric, "raw" text, "tags" text) ' +
        'ON CONFLICT ("id") DO UPDATE SET "qty" = excluded."qty", "price" = excluded."price", "raw" = excluded."raw", "tags" = excluded."tags"',
      parameterSets: [
        [
          '[{"id":"1","qty":2,"price":"3.50","raw":"AP9B","tags":"{a}"},{"id":"9007199254740993","qty":2,"price":"3.50","raw":null,"tags":"{a}"}]',
        ],
      ],
    });
    expect(sqlite).toEqual({
      text:
        'INSERT INTO "orders" AS r ("id", "qty", "price", "raw", "tags") VALUES (?, ?, ?, ?, ?) ' +
        'ON CONFLICT ("id") DO UPDATE SET "qty" = excluded."qty", "price" = excluded."price", "raw" = excluded."raw", "tags" = excluded."tags"',
      parameterSets: [
        [1, 2, "3.50", bytes, "{a}"],
        [9007199254740993n, 2, "3.50", null, "{a}"],
      ],
    });
    expect(duckdb).toEqual({
      text:
        'INSERT INTO "public"."orders" AS r ("id", "qty", "price", "raw", "tags") ' +
        'SELECT s.x."id", s.x."qty", s.x."price", from_base64(s.x."raw"), s.x."tags" ' +
        "FROM (SELECT unnest(json_transform_strict($1::JSON, " +
        `'[{"id":"BIGINT","qty":"INTEGER","price":"DECIMAL(10,2)","raw":"VARCHAR","tags":"VARCHAR"}]')) AS x) AS s ` +
        'ON CONFLICT ("id") DO UPDATE SET "qty" = excluded."qty", "price" = excluded."price", "raw" = excluded."raw", "tags" = excluded."tags"',
      parameterSets: postgres.parameterSets,
    });
  });

  test("patch, which must find every row", () => {
    const { postgres, sqlite, duckdb } = sayOne(orders, [
      { kind: "patch", row: { id: "1", price: "1.0" } },
      { kind: "patch", row: { id: "2", price: null } },
    ]);
    expect(postgres).toEqual({
      text:
        'UPDATE "public"."orders" AS r SET "price" = x."price" ' +
        'FROM json_to_recordset($1::text::json) AS x("id" bigint, "price" numeric) WHERE r."id" = x."id"',
      parameterSets: [['[{"id":"1","price":"1.0"},{"id":"2","price":null}]']],
      mustAffect: 2,
    });
    expect(sqlite).toEqual({
      text: 'UPDATE "orders" SET "price" = ? WHERE "orders"."id" = ?',
      parameterSets: [
        ["1.0", 1],
        [null, 2],
      ],
      mustAffect: 2,
    });
    expect(duckdb).toEqual({
      text:
        'UPDATE "public"."orders" AS r SET "price" = s.x."price" ' +
        `FROM (SELECT unnest(json_transform_strict($1::JSON, '[{"id":"BIGINT","price":"DECIMAL(10,2)"}]')) AS x) AS s WHERE r."id" = s.x."id"`,
      parameterSets: postgres.parameterSets,
      mustAffect: 2,
    });
  });

  test("delete", () => {
    const { postgres, sqlite, duckdb } = sayOne(orders, [{ kind: "delete", key: { id: "1" } }]);
    expect(postgres).toEqual({
      text: 'DELETE FROM "public"."orders" AS r USING json_to_recordset($1::text::json) AS x("id" bigint) WHERE r."id" = x."id"',
      parameterSets: [['[{"id":"1"}]']],
    });
    expect(sqlite).toEqual({ text: 'DELETE FROM "orders" WHERE "orders"."id" = ?', parameterSets: [[1]] });
    expect(duckdb).toEqual({
      text: `DELETE FROM "public"."orders" AS r USING (SELECT unnest(json_transform_strict($1::JSON, '[{"id":"BIGINT"}]')) AS x) AS s WHERE r."id" = s.x."id"`,
      parameterSets: [['[{"id":"1"}]']],
    });
  });

  test("move, which must find every row", () => {
    const { postgres, sqlite, duckdb } = sayOne(orders, [{ kind: "move", from: { id: "1" }, row: { id: "2", qty: 5 } }]);
    expect(postgres).toEqual({
      text:
        'UPDATE "public"."orders" AS r SET "id" = x."new_0", "qty" = x."new_1" ' +
        'FROM json_to_recordset($1::text::json) AS x("old_0" bigint, "new_0" bigint, "new_1" integer) WHERE r."id" = x."old_0"',
      parameterSets: [['[{"old_0":"1","new_0":"2","new_1":5}]']],
      mustAffect: 1,
    });
    expect(sqlite).toEqual({
      text: 'UPDATE "orders" SET "id" = ?, "qty" = ? WHERE "orders"."id" = ?',
      parameterSets: [[2, 5, 1]],
      mustAffect: 1,
    });
    expect(duckdb).toEqual({
      text:
        'UPDATE "public"."orders" AS r SET "id" = s.x."new_0", "qty" = s.x."new_1" ' +
        `FROM (SELECT unnest(json_transform_strict($1::JSON, '[{"old_0":"BIGINT","new_0":"BIGINT","new_1":"INTEGER"}]')) AS x) AS s WHERE r."id" = s.x."old_0"`,
      parameterSets: postgres.parameterSets,
      mustAffect: 1,
    });
  });

  test("append and remove", () => {
    const log = tableSchema("log", { at: "date", n: "numeric" }, { key: [] });
    const row = { at: "2026-01-01", n: "1.0" };
    const append = sayOne(log, [{ kind: "append", row }]);
    expect(append.postgres.text).toBe(
      'INSERT INTO "public"."log" ("at", "n") OVERRIDING SYSTEM VALUE SELECT x."at", x."n" FROM json_to_recordset($1::text::json) AS x("at" date, "n" numeric)',
    );
    expect(append.sqlite.text).toBe('INSERT INTO "log" ("at", "n") VALUES (?, ?)');
    const given = `(SELECT unnest(json_transform_strict($1::JSON, '[{"at":"DATE","n":"VARCHAR"}]')) AS x) AS s`;
    expect(append.duckdb.text).toBe(`INSERT INTO "public"."log" ("at", "n") SELECT s.x."at", s.x."n" FROM ${given}`);
    const { postgres, sqlite, duckdb } = sayOne(log, [
      { kind: "remove", row },
      { kind: "remove", row },
    ]);
    expect(postgres).toEqual({
      text:
        'DELETE FROM "public"."log" WHERE (tableoid, ctid) = (SELECT r.tableoid, r.ctid FROM "public"."log" AS r, ' +
        'json_to_recordset($1::text::json) AS x("at" date, "n" numeric) ' +
        'WHERE r."at" IS NOT DISTINCT FROM x."at" AND (r."n")::text IS NOT DISTINCT FROM (x."n")::text LIMIT 1)',
      parameterSets: [['[{"at":"2026-01-01","n":"1.0"}]'], ['[{"at":"2026-01-01","n":"1.0"}]']],
      mustAffect: 2,
    });
    expect(sqlite).toEqual({
      text: 'DELETE FROM "log" WHERE rowid = (SELECT rowid FROM "log" WHERE "log"."at" IS ? AND "log"."n" IS ? LIMIT 1)',
      parameterSets: [
        ["2026-01-01", "1.0"],
        ["2026-01-01", "1.0"],
      ],
      mustAffect: 2,
    });
    expect(duckdb).toEqual({
      text:
        'DELETE FROM "public"."log" WHERE rowid IN (SELECT id FROM (SELECT r.rowid AS id, s.times, row_number() OVER (PARTITION BY s.number) AS nth ' +
        `FROM "public"."log" AS r JOIN (SELECT x, count(*) AS times, row_number() OVER () AS number FROM ${given} GROUP BY x) AS s ` +
        'ON r."at" IS NOT DISTINCT FROM s.x."at" AND r."n" IS NOT DISTINCT FROM s.x."n") WHERE nth <= times)',
      parameterSets: [['[{"at":"2026-01-01","n":"1.0"},{"at":"2026-01-01","n":"1.0"}]']],
      mustAffect: 2,
    });
  });

  test("truncate", () => {
    const { postgres, sqlite, duckdb } = sayOne(orders, [{ kind: "truncate" }]);
    expect(duckdb).toEqual({ text: 'DELETE FROM "public"."orders"', parameterSets: [[]] });
    expect(postgres).toEqual({ text: 'TRUNCATE "public"."orders"', parameterSets: [[]] });
    expect(sqlite).toEqual({ text: 'DELETE FROM "orders"', parameterSets: [[]] });
    // PostgreSQL refuses to truncate what foreign keys of other tables point at.
    const referenced = postgresDialect.render(freshTable("postgres", orders, true), [{ kind: "truncate" }]);
    expect(referenced).toEqual([{ text: 'DELETE FROM "public"."orders"', parameterSets: [[]] }]);
  });
});

test("mutations become a statement per kind and set of columns, in their order", () => {
  const { postgres, sqlite } = say(orders, [
    { kind: "truncate" },
    { kind: "put", row: full },
    { kind: "put", row: { ...full, id: "2" } },
    { kind: "patch", row: { id: "1", qty: 1 } },
    { kind: "patch", row: { id: "2", qty: 1 } },
    { kind: "patch", row: { id: "1", tags: "{}" } },
    { kind: "delete", key: { id: "1" } },
    { kind: "put", row: full },
  ]);
  const starts = (statements: readonly Statement[]) => statements.map(({ text }) => text.split(" ")[0]);
  expect(starts(postgres)).toEqual(["TRUNCATE", "INSERT", "UPDATE", "UPDATE", "DELETE", "INSERT"]);
  expect(starts(sqlite)).toEqual(["DELETE", "INSERT", "UPDATE", "UPDATE", "DELETE", "INSERT"]);
  expect(sqlite.map(({ parameterSets }) => parameterSets.length)).toEqual([1, 2, 2, 1, 1, 1]);
});

test("a row that moves on takes a statement for each move; strangers share one", () => {
  const move = (from: string, to: string): Mutation => ({ kind: "move", from: { id: from }, row: { id: to, qty: 1 } });
  const rowsOf = (mutations: readonly Mutation[]) => say(orders, mutations).postgres.map(({ mustAffect }) => mustAffect);
  expect(rowsOf([move("1", "2"), move("3", "4"), move("2", "5"), move("6", "7")])).toEqual([2, 2]);
  expect(rowsOf([move("1", "2"), move("2", "1")])).toEqual([1, 1]);
  expect(rowsOf([move("2", "3"), move("1", "2")])).toEqual([1, 1]);
});

test("a table that is all key puts by doing nothing, and patches its key for the row to be counted", () => {
  const pair = tableSchema("pair", { a: "integer", b: "uuid" }, { key: ["b", "a"] });
  const put = sayOne(pair, [{ kind: "put", row: { a: 1, b: "u" } }]);
  for (const { text } of Object.values(put)) expect(text).toEndWith(' ON CONFLICT ("b", "a") DO NOTHING');
  const patch = sayOne(pair, [{ kind: "patch", row: { a: 1, b: "u" } }]);
  expect(patch.postgres.text).toStartWith('UPDATE "public"."pair" AS r SET "a" = x."a", "b" = x."b" FROM');
  expect(patch.sqlite.text).toBe('UPDATE "pair" SET "a" = ?, "b" = ? WHERE "pair"."b" = ? AND "pair"."a" = ?');
  expect(patch.sqlite.parameterSets).toEqual([[1, "u", "u", 1]]);
});

test("where equal keys of PostgreSQL look different, a put writes the key too", () => {
  const loose = tableSchema("loose", { n: "numeric", at: "interval", t: "text" }, { key: ["n", "t", "at"] });
  const { postgres, sqlite } = sayOne(loose, [{ kind: "put", row: { n: "1.0", at: "1 day", t: "x" } }]);
  expect(postgres.text).toEndWith('ON CONFLICT ("n", "t", "at") DO UPDATE SET "n" = excluded."n", "at" = excluded."at"');
  expect(sqlite.text).toEndWith('ON CONFLICT ("n", "t", "at") DO NOTHING');
});

test("names are quoted wherever they stand", () => {
  const weird = tableSchema('we.ird "T" é', { 'i"d': "integer", select: "text" }, { schema: "My Schema" });
  const { postgres, sqlite } = sayOne(weird, [{ kind: "patch", row: { 'i"d': 1, select: "x" } }]);
  expect(postgres.text).toBe(
    'UPDATE "My Schema"."we.ird ""T"" é" AS r SET "select" = x."select" ' +
      'FROM json_to_recordset($1::text::json) AS x("i""d" integer, "select" text) WHERE r."i""d" = x."i""d"',
  );
  expect(sqlite.text).toBe('UPDATE "My Schema_we.ird ""T"" é" SET "select" = ? WHERE "My Schema_we.ird ""T"" é"."i""d" = ?');
});

test("columns named like what every object has keep their values", () => {
  const odd = tableSchema("odd", [
    ["__proto__", "double precision"],
    ["constructor", "text"],
  ]);
  const row = JSON.parse('{"__proto__":-0.0,"constructor":null}') as WireRow;
  expect(postgresDialect.render(freshTable("postgres", odd), [{ kind: "put", row }])[0]?.parameterSets).toEqual([
    ['[{"__proto__":"-0","constructor":null}]'],
  ]);
  const positive = JSON.parse('{"__proto__":1,"constructor":"c"}') as WireRow;
  expect(sqliteDialect.render(freshTable("sqlite", odd), [{ kind: "put", row: positive }])[0]?.parameterSets).toEqual([[1, "c"]]);
});

test("PostgreSQL gets -0 as text, in moves too", () => {
  const float = tableSchema("f", { id: "double precision", n: "real" });
  const sent = (mutation: Mutation) => sayOnePostgres(float, mutation).parameterSets;
  expect(sent({ kind: "put", row: { id: 0, n: -0 } })).toEqual([['[{"id":0,"n":"-0"}]']]);
  expect(sent({ kind: "move", from: { id: -0 }, row: { id: 1, n: -0 } })).toEqual([['[{"old_0":"-0","new_0":1,"new_1":"-0"}]']]);
});

const sayOnePostgres = (source: TableSchema, mutation: Mutation): Statement =>
  postgresDialect.render(freshTable("postgres", source), [mutation])[0] as Statement;

describe("a missing table", () => {
  const types = {
    id: "bigint",
    at: "timestamp(3) with time zone",
    mood: "public.mood",
    ok: "boolean",
    f: "real",
    of: "regclass",
  };
  test("is created with the source's columns, key and NOT NULL, and no other constraint", () => {
    const source = tableSchema("t", types, { notNull: ["at"] });
    expect(postgresDialect.createTable(source)).toEqual([
      'CREATE TABLE IF NOT EXISTS "public"."t" (\n  "id" bigint NOT NULL,\n  "at" timestamp(3) with time zone NOT NULL,\n  "mood" text,\n  "ok" boolean,\n  "f" real,\n  "of" text,\n  PRIMARY KEY ("id")\n)',
    ]);
    expect(sqliteDialect.createTable(source)).toEqual([
      'CREATE TABLE IF NOT EXISTS "t" (\n  "id" INTEGER NOT NULL,\n  "at" TEXT NOT NULL,\n  "mood" TEXT,\n  "ok" INTEGER,\n  "f" ANY,\n  "of" TEXT,\n  PRIMARY KEY ("id")\n) STRICT',
    ]);
  });

  test("without columns is refused by both, with names that SQLite takes for one by SQLite", () => {
    const refused = { code: "UNSUPPORTED_TABLE", verdict: "stop-table" };
    const empty = tableSchema("none", {}, { key: [] });
    for (const dialect of Object.values(dialects))
      expect(() => dialect.createTable(empty)).toThrow(expect.objectContaining(refused));
    const cases = tableSchema("cases", { id: "integer", Id: "integer" });
    expect(postgresDialect.columnsOf(cases)).toHaveLength(2);
    expect(() => sqliteDialect.columnsOf(cases)).toThrow("public.cases has columns id and Id");
    // Beyond ASCII it keeps case apart.
    expect(sqliteDialect.columnsOf(tableSchema("cases", { é: "integer", É: "integer" }))).toHaveLength(2);
  });

  test("whose columns hide every name of SQLite's row number is refused where rows have no other", () => {
    const names = { OID: "text", rowid: "text", _rowid_: "text" };
    expect(() => sqliteDialect.columnsOf(tableSchema("t", names, { key: [] }))).toThrow("hide SQLite's row number");
    expect(sqliteDialect.columnsOf(tableSchema("t", names))).toHaveLength(3);
    const { oid: _, ...two } = { oid: "text", rowid: "text", _rowid_: "text" };
    const source = tableSchema("t", two, { key: [] });
    const remove: Mutation = { kind: "remove", row: { rowid: "a", _rowid_: "b" } };
    expect(sqliteDialect.render(freshTable("sqlite", source), [remove])[0]?.text).toStartWith(
      'DELETE FROM "t" WHERE oid = (SELECT oid FROM',
    );
  });
});

test("a source's table with the name of one that the router keeps in the replica is refused", () => {
  const progress = { ...tableSchema("progress", { topic: "text" }), schema: "cascade" };
  expect(() => postgresDialect.createTable(progress)).toThrow("that the router keeps in the replica");
});

test("a row without a key that may be missing is not insisted on", () => {
  const lines = tableSchema("lines", { n: "integer" }, { key: [] });
  const said = say(lines, [
    { kind: "remove", row: { n: 1 } },
    { kind: "remove", row: { n: 1 }, mayMiss: true },
  ]);
  for (const statements of Object.values(said)) expect(statements.map(({ mustAffect }) => mustAffect)).toEqual([1, undefined]);
});

test("a patch that may miss its row insists on none, and is a statement of its own", () => {
  const { postgres, sqlite, duckdb } = say(orders, [
    { kind: "patch", row: { id: "1", qty: 1 } },
    { kind: "patch", row: { id: "2", qty: 1 }, mayMiss: true },
  ]);
  for (const statements of [postgres, sqlite, duckdb])
    expect(statements.map(({ mustAffect }) => mustAffect)).toEqual([1, undefined]);
});
