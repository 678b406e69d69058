import { describe, expect, test } from "bun:test";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { planChange } from "../schema-change.ts";
import type { TableChangeOptions } from "./changed-columns.ts";
import * as duckdb from "./duckdb-changes.ts";
import { mariadbDialect } from "./mariadb.ts";
import { mysqlDialect } from "./mysql.ts";
import * as mysql from "./mysql-changes.ts";

/** What the engines are told to do for a change, side by side; test/schema-changes*.test.ts runs it where there is a server. */

const from = tableSchema("t", {
  id: "integer",
  a: "text",
  b: "character varying(10)",
  at: "timestamp without time zone",
  gone: "integer",
});
const [id, a, b, at] = from.columns as [never, ...TableSchema["columns"]] & TableSchema["columns"];
const changed = (change: Partial<TableSchema>): TableSchema => {
  const { id: _, ...rest } = { ...from, ...change };
  return identifySchema(rest);
};

const isText = (type: string) => /char|text/.test(type);

function sayMysql(
  dialect: typeof mysqlDialect,
  to: TableSchema,
  given: Partial<mysql.ChangedTable & mysql.MysqlChangeOptions> = {},
) {
  const columns = dialect.columnsOf(from).map(({ name, type }, index) => ({
    name,
    type: type.toLowerCase().replace(/ character set.*/, ""),
    nullable: from.columns[index]?.nullable ?? true,
    comment: name === "b" ? "it's" : "",
    charset: isText(type.toLowerCase()) ? "utf8mb4" : null,
    collation: isText(type.toLowerCase()) ? dialect.collation : null,
  }));
  const table = { sqlName: "`t`", columns, keyIndex: "PRIMARY", hasNewKey: false, isEmpty: false, withNulls: new Set<string>() };
  const options = {
    dialect,
    from,
    to,
    steps: planChange(from, to),
    rewritten: false,
    unfit: false,
    empties: false,
    sqlName: "`t`",
    comment: "m",
  };
  return mysql.mysqlChange({ ...table, ...given }, { ...options, ...given });
}

function sayDuckdb(to: TableSchema, given: Partial<duckdb.ChangedTable & TableChangeOptions> = {}) {
  const types = ["INTEGER", "VARCHAR", "VARCHAR", "TIMESTAMP", "INTEGER"];
  const columns = from.columns.map(({ name, nullable }, index) => ({
    name,
    type: types[index] ?? "",
    notNull: !nullable,
    default: null,
  }));
  const table = {
    ...{ sqlName: '"public"."t"', columns, indexes: [], uniques: [], primaryKey: ["id"], hasForeignKeys: false, isEmpty: false },
    withNulls: new Set<string>(),
  };
  const options = {
    from,
    to,
    steps: planChange(from, to),
    rewritten: false,
    unfit: false,
    empties: false,
    sqlName: '"public"."t"',
  };
  return duckdb.duckdbChange({ ...table, ...given }, { ...options, ...given });
}

const swapped = changed({ columns: [id, { ...a, name: "b" }, { ...b, name: "a" }, at] as never });
const zoned = changed({ columns: [id, a, b, { ...at, type: "timestamp with time zone", typeOid: 1184 }] as never });
const added = changed({
  columns: [
    ...from.columns,
    columnSchema("n", "numeric(6,2)", { attnum: 6, nullable: false, missing: "1.50" }),
    columnSchema("m", "integer", { attnum: 7, nullable: false }),
    columnSchema("s", "text", { attnum: 8, missing: "it's \\" }),
  ],
});
const rekeyed = changed({ key: ["a"], columns: [id, { ...a, nullable: false }, b, at, from.columns[4]] as never });

describe("MySQL and MariaDB", () => {
  const longtext = (collation: string) => `LONGTEXT CHARACTER SET utf8mb4 COLLATE ${collation}`;
  test.each([
    ["MySQL", mysqlDialect, "utf8mb4_0900_bin"],
    ["MariaDB", mariadbDialect, "utf8mb4_nopad_bin"],
  ] as const)("%s: one ALTER TABLE, marked", (engine, dialect, collation) => {
    expect(sayMysql(dialect, swapped)).toEqual({
      first: [],
      alter: "ALTER TABLE `t` DROP COLUMN `gone`, RENAME COLUMN `a` TO `b`, RENAME COLUMN `b` TO `a`, COMMENT = 'm'",
      rename: null,
      last: [],
      unknown: [],
      unfitKey: false,
    });
    const computed =
      "CASE WHEN `at` LIKE '%infinity' THEN `at` WHEN `at` LIKE '% BC' THEN CONCAT(LEFT(`at`, CHAR_LENGTH(`at`) - 3), '+00 BC') ELSE CONCAT(`at`, '+00') END";
    const zonedType = `VARCHAR(35) CHARACTER SET utf8mb4 COLLATE ${collation}`;
    expect(sayMysql(dialect, zoned)).toEqual({
      first: [
        `ALTER TABLE \`t\` ADD COLUMN \`cascade 4\` ${zonedType} AS (${computed}) STORED`,
        ...(engine === "MySQL" ? [`ALTER TABLE \`t\` MODIFY COLUMN \`cascade 4\` ${zonedType}`] : []),
      ],
      alter: `ALTER TABLE \`t\` DROP COLUMN \`gone\`, DROP COLUMN \`at\`, CHANGE COLUMN \`cascade 4\` \`at\` ${zonedType} NULL, COMMENT = 'm'`,
      rename: null,
      last: [],
      unknown: [],
      unfitKey: false,
    });
    expect(sayMysql(dialect, added)).toEqual({
      first: [],
      alter: `ALTER TABLE \`t\` ADD COLUMN \`n\` DECIMAL(6,2) NOT NULL DEFAULT (1.50), ADD COLUMN \`m\` INT NULL, ADD COLUMN \`s\` ${longtext(collation)} NULL DEFAULT ('it''s \\\\'), COMMENT = 'm'`,
      rename: null,
      last: ["ALTER TABLE `t` ALTER COLUMN `n` DROP DEFAULT, ALTER COLUMN `s` DROP DEFAULT"],
      unknown: [],
      unfitKey: false,
    });
    expect(sayMysql(dialect, rekeyed).alter).toBe(
      `ALTER TABLE \`t\` CHANGE COLUMN \`a\` \`a\` VARCHAR(768) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (\`a\`), COMMENT = 'm'`,
    );
  });

  test("what nobody can convert is made anew where the rows come again, else not touched", () => {
    const to = changed({ columns: [id, a, { ...b, type: "jsonb", typeOid: 3802 }, at, from.columns[4]] as never });
    expect(sayMysql(mariadbDialect, to).unknown).toEqual(["b"]);
    const alter = `ALTER TABLE \`t\` DROP COLUMN \`b\`, ADD COLUMN \`b\` ${longtext("utf8mb4_nopad_bin")} NULL COMMENT 'it''s', COMMENT = 'm'`;
    expect(sayMysql(mariadbDialect, to, { rewritten: true })).toEqual({
      first: [],
      alter,
      rename: null,
      last: [],
      unknown: [],
      unfitKey: false,
    });
    expect(sayMysql(mariadbDialect, to, { rewritten: true, empties: true }).first).toEqual(["TRUNCATE TABLE `t`"]);
  });

  test("a column of the user's own that holds the new type stays, with its comment; nothing to do is nothing", () => {
    const wider = changed({ columns: [id, a, { ...b, type: "character varying(20)" }, at, from.columns[4]] as never });
    const own = (type: string) => ({
      columns: from.columns.map(({ name, nullable }) => {
        const text = { type: type, charset: "utf8mb4", collation: "utf8mb4_nopad_bin" };
        return { name, nullable, comment: "", ...(name === "b" ? text : { type: "int", charset: null, collation: null }) };
      }),
    });
    expect(sayMysql(mariadbDialect, wider, own("varchar(50)")).alter).toBeNull();
    expect(sayMysql(mariadbDialect, wider).alter).toBe(
      "ALTER TABLE `t` CHANGE COLUMN `b` `b` VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NULL COMMENT 'it''s', COMMENT = 'm'",
    );
  });
});

describe("DuckDB", () => {
  const alters = (...steps: string[]) => steps.map((step) => `ALTER TABLE "public"."t" ${step}`);
  test("alters what is in its catalog alone", () => {
    expect(sayDuckdb(swapped).statements).toEqual(
      alters(
        'DROP COLUMN "gone"',
        'RENAME COLUMN "a" TO "cascade 0"',
        'RENAME COLUMN "b" TO "cascade 1"',
        'RENAME COLUMN "cascade 0" TO "b"',
        'RENAME COLUMN "cascade 1" TO "a"',
      ),
    );
    const named = changed({ table: "u" });
    expect(sayDuckdb(named, { sqlName: '"public"."t"' }).statements).toEqual([]);
  });

  test("makes the table anew for the rest, with its own indexes", () => {
    const indexes = [{ name: "own", isUnique: true, parts: ['"a"', "id"] }];
    const filled = '"id", "a", "b", "at"';
    expect(sayDuckdb(zoned, { indexes }).statements).toEqual([
      'CREATE SCHEMA IF NOT EXISTS "public"',
      'CREATE TABLE "public"."cascade 16400" ("id" INTEGER NOT NULL, "a" VARCHAR, "b" VARCHAR, "at" TIMESTAMP WITH TIME ZONE, PRIMARY KEY ("id"))',
      `INSERT INTO "public"."cascade 16400" (${filled}) SELECT "id", "a", "b", CAST("at" AS TIMESTAMP WITH TIME ZONE) FROM "public"."t"`,
      'DROP TABLE "public"."t"',
      'ALTER TABLE "public"."cascade 16400" RENAME TO "t"',
      'CREATE UNIQUE INDEX "own" ON "public"."t" ("a", "id")',
    ]);
    expect(sayDuckdb(added).statements[1]).toBe(
      'CREATE TABLE "public"."cascade 16400" ("id" INTEGER NOT NULL, "a" VARCHAR, "b" VARCHAR, "at" TIMESTAMP, "gone" INTEGER, "n" DECIMAL(6,2) NOT NULL, "m" INTEGER, "s" VARCHAR, PRIMARY KEY ("id"))',
    );
    expect(sayDuckdb(rekeyed).statements[1]).toContain(
      '"a" VARCHAR NOT NULL, "b" VARCHAR, "at" TIMESTAMP, "gone" INTEGER, PRIMARY KEY ("a")',
    );
  });

  test("names what of the user's own would be lost", () => {
    const indexes = [{ name: "lower", isUnique: false, parts: ["(lower(a))"] }];
    expect(sayDuckdb(zoned, { indexes, hasForeignKeys: true }).lost).toEqual([
      'the index "lower" of expressions',
      "foreign keys of it or that point at it",
    ]);
    const onlyAdded = changed({ columns: [...from.columns, columnSchema("x", "text", { attnum: 9 })] });
    expect(sayDuckdb(onlyAdded, { indexes, hasForeignKeys: true })).toEqual({
      statements: alters('ADD COLUMN "x" VARCHAR'),
      keyValues: null,
      unknown: [],
      lost: [],
    });
  });
});
