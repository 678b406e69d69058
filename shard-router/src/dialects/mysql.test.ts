import { describe, expect, test } from "bun:test";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import type { ReplicaTable } from "../dialect.ts";
import type { Mutation } from "../mutation.ts";
import { mariadbDialect } from "./mariadb.ts";
import { foldName, mysqlDialect, quoteMysql } from "./mysql.ts";
import { mysqlHolds } from "./mysql-fit.ts";
import { mysqlColumnType, parseMysqlType } from "./mysql-types.ts";
import { mysqlEncoder } from "./mysql-values.ts";
import { flatTableName } from "./table-names.ts";

/** What MySQL and MariaDB say, side by side: only the upsert and the collation differ. */

const orders = tableSchema("orders", { id: "bigint", qty: "integer", price: "numeric(10,2)", note: "text", raw: "bytea" });
const row = { id: "1", qty: 2, price: "3.50", note: "n", raw: "AP9B" };

function say(source: typeof orders, mutations: readonly Mutation[], hasOtherUnique = false) {
  const [mysql, mariadb] = [mysqlDialect, mariadbDialect].map((dialect) => {
    const table: ReplicaTable = {
      source,
      sqlName: quoteMysql(flatTableName(source)),
      columns: dialect.columnsOf(source),
      referenced: false,
      hasOtherUnique,
    };
    return dialect.render(table, mutations);
  });
  return { mysql, mariadb };
}

describe("a statement", () => {
  test("put", () => {
    const { mysql, mariadb } = say(orders, [{ kind: "put", row }]);
    const insert = "INSERT INTO `orders` (`id`, `qty`, `price`, `note`, `raw`) VALUES (?, ?, ?, ?, ?)";
    const parameterSets = [["1", "2", "3.50", "n", Buffer.from([0, 255, 65])]];
    expect(mysql).toEqual([
      {
        text: `${insert} AS \`the new row\` ON DUPLICATE KEY UPDATE \`id\` = IF(\`orders\`.\`id\` <=> \`the new row\`.\`id\`, \`orders\`.\`id\`, NULL), \`qty\` = \`the new row\`.\`qty\`, \`price\` = \`the new row\`.\`price\`, \`note\` = \`the new row\`.\`note\`, \`raw\` = \`the new row\`.\`raw\``,
        parameterSets,
      },
    ]);
    expect(mariadb).toEqual([
      {
        text: `${insert} ON DUPLICATE KEY UPDATE \`id\` = IF(\`orders\`.\`id\` <=> VALUES(\`id\`), \`orders\`.\`id\`, NULL), \`qty\` = VALUES(\`qty\`), \`price\` = VALUES(\`price\`), \`note\` = VALUES(\`note\`), \`raw\` = VALUES(\`raw\`)`,
        parameterSets,
      },
    ]);
  });

  test("put beside another unique index touches no row but its key's", () => {
    const { mysql, mariadb } = say(
      tableSchema("t", { id: "bigint", u: "integer" }),
      [{ kind: "put", row: { id: "1", u: 2 } }],
      true,
    );
    expect(mysql).toEqual(mariadb as typeof mysql);
    expect(mysql).toEqual([
      { text: "UPDATE `t` SET `u` = ? WHERE `id` = CAST(? AS SIGNED)", parameterSets: [["2", "1"]] },
      {
        text: "INSERT INTO `t` (`id`, `u`) SELECT ?, ? FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM `t` WHERE `id` = CAST(? AS SIGNED))",
        parameterSets: [["1", "2", "1"]],
        onlyPipelined: true,
      },
    ]);
  });

  test("patch, move, delete, remove, truncate: numbers are compared as numbers", () => {
    const keyed = tableSchema("k", { id: "numeric(20,2)", at: "uuid", v: "text" }, { key: ["id", "at"] });
    const key = { id: "1.00", at: "u" };
    const found = "`id` = CAST(? AS DECIMAL(20,2)) AND `at` = ?";
    const texts = (source: typeof orders, mutation: Mutation) => {
      const { mysql, mariadb } = say(source, [mutation]);
      expect(mysql).toEqual(mariadb as typeof mysql);
      return (mysql ?? []).map(({ text, mustAffect }) => [text, mustAffect]);
    };
    expect(texts(keyed, { kind: "patch", row: { ...key, v: null } })).toEqual([[`UPDATE \`k\` SET \`v\` = ? WHERE ${found}`, 1]]);
    expect(texts(keyed, { kind: "move", from: key, row: { ...key, id: "2.00" } })).toEqual([
      [`UPDATE \`k\` SET \`id\` = ?, \`at\` = ? WHERE ${found}`, 1],
    ]);
    expect(texts(keyed, { kind: "delete", key })).toEqual([[`DELETE FROM \`k\` WHERE ${found}`, undefined]]);
    expect(texts(keyed, { kind: "truncate" })).toEqual([["DELETE FROM `k`", undefined]]);
    const log = tableSchema("log", { at: "time without time zone", n: "oid", t: "text" }, { key: [] });
    const line = { at: "12:00:00", n: "1", t: "x" };
    expect(texts(log, { kind: "append", row: line })).toEqual([
      ["INSERT INTO `log` (`at`, `n`, `t`) VALUES (?, ?, ?)", undefined],
    ]);
    expect(texts(log, { kind: "remove", row: line })).toEqual([
      ["DELETE FROM `log` WHERE `at` <=> CAST(? AS TIME(6)) AND `n` <=> CAST(? AS UNSIGNED) AND `t` <=> ? LIMIT 1", 1],
    ]);
  });
});

test("a missing table is created with collations that tell every text apart", () => {
  const source = tableSchema("T`b", { id: "text", at: "date", u: "uuid", v: "character varying(10)" }, { notNull: ["id", "u"] });
  const text = (collation: string) =>
    `CREATE TABLE IF NOT EXISTS \`T\`\`b\` (\n  \`id\` VARCHAR(768) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL,\n  \`at\` VARCHAR(32) CHARACTER SET utf8mb4 COLLATE ${collation},\n  \`u\` CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,\n  \`v\` VARCHAR(10) CHARACTER SET utf8mb4 COLLATE ${collation},\n  PRIMARY KEY (\`id\`)\n) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE ${collation}`;
  expect(mysqlDialect.createTable(source)).toEqual([text("utf8mb4_0900_bin")]);
  expect(mariadbDialect.createTable(source)).toEqual([text("utf8mb4_nopad_bin")]);
});

test("the long columns of a key share what InnoDB allows", () => {
  const source = tableSchema(
    "t",
    { a: "text", b: "bytea", c: "bigint", d: "character varying(200)" },
    { key: ["a", "b", "c", "d"] },
  );
  expect(source.columns.map((column) => mysqlColumnType(source, column))).toEqual([
    "VARCHAR(253)",
    "VARBINARY(1012)",
    "BIGINT",
    "VARCHAR(200)",
  ]);
});

test("a row of many long columns is declared with texts that count for little", () => {
  const names = Array.from({ length: 60 }, (_, at) => [`c${at}`, "character varying(255)"] as const);
  const source = tableSchema("t", [["id", "bigint"], ...names]);
  const types = source.columns.map((column) => mysqlColumnType(source, column));
  expect(types).toEqual(["BIGINT", ...names.map(() => "LONGTEXT")]);
});

test("names that MySQL does not allow, or takes for one, are refused with the reason", () => {
  const refused = (source: typeof orders) => expect(() => mariadbDialect.columnsOf(source));
  refused(tableSchema("t", { é: "text", E: "text" })).toThrow("has columns é and E, which MySQL takes for one");
  refused(tableSchema("t ", { a: "text" })).toThrow("ends with white space");
  refused(tableSchema("t", { "😀": "text" })).toThrow("beyond U+FFFF");
  refused(tableSchema("x".repeat(40), { a: "text" }, { schema: "y".repeat(40) })).toThrow("longer than MySQL's 64 characters");
  refused(tableSchema("t", {}, { key: [] })).toThrow("has no columns");
  expect(foldName("É")).toBe("e");
});

describe("a column of the user's own", () => {
  const fits = (source: string, type: string, inKey = false): boolean => {
    const column = columnSchema("c", source);
    const schema = { ...tableSchema("t", {}, { key: inKey ? ["c"] : [] }), columns: [column] };
    return mysqlHolds(schema, column, parseMysqlType(type));
  };
  test.each([
    [
      "integer",
      ["int(11)", "bigint(20)", "longtext", "varchar(11)"],
      ["smallint(6)", "int(10) unsigned", "varchar(10)", "double"],
    ],
    ["bigint", ["bigint(20)", "varchar(20)", "text"], ["int(11)", "bigint(20) unsigned", "decimal(20,0)"]],
    ["boolean", ["tinyint(1)", "varchar(5)"], ["char(5)", "bit(1)"]],
    ["oid", ["int(10) unsigned", "bigint(20)"], ["int(11)"]],
    [
      "numeric(10,2)",
      ["decimal(10,2)", "decimal(12,2)", "varchar(13)"],
      ["decimal(10,3)", "decimal(9,2)", "double", "varchar(12)"],
    ],
    ["numeric", ["longtext", "mediumtext"], ["decimal(65,30)", "double", "text", "varchar(100)"]],
    ["double precision", ["double", "varchar(24)"], ["float", "double(10,2)", "decimal(65,30)"]],
    ["text", ["longtext"], ["text", "varchar(1000)", "json", "enum('a')"]],
    ["character varying(10)", ["varchar(10)", "text", "tinytext"], ["varchar(9)", "char(10)"]],
    ["bytea", ["longblob", "mediumblob"], ["blob", "varbinary(100)", "longtext"]],
    ["timestamp with time zone", ["datetime(6)", "varchar(35)"], ["datetime", "datetime(3)", "timestamp", "date"]],
    ["date", ["date", "varchar(32)"], ["datetime(6)", "year(4)"]],
    ["time without time zone", ["time(6)", "varchar(15)"], ["time", "time(3)"]],
    ["uuid", ["char(36)", "varchar(36)", "uuid"], ["char(35)", "binary(16)"]],
    ["public.mood", ["longtext"], ["varchar(20)", "enum('a')"]],
  ])("%s fits %j and none of %j", (source, fitting, misfitting) => {
    expect(fitting.filter((type) => !fits(source, type))).toEqual([]);
    expect(misfitting.filter((type) => fits(source, type))).toEqual([]);
  });

  test("of a key need not be longer than what Cascade would make", () => {
    expect([fits("text", "varchar(768)", true), fits("text", "varchar(767)", true)]).toEqual([true, false]);
  });

  test("binds every value as text but bytes, and refuses what it cannot hold", () => {
    const bind = (source: string, type: string, value: string | number | boolean | null) => {
      const column = columnSchema("c", source);
      const encode = mysqlEncoder({ ...orders, columns: [column] }, column, parseMysqlType(type));
      return encode === null ? value : encode(value);
    };
    expect([bind("boolean", "tinyint(1)", true), bind("boolean", "longtext", false)]).toEqual(["1", "false"]);
    expect([bind("integer", "int(11)", 5), bind("real", "longtext", 1e-5), bind("real", "longtext", -0)]).toEqual([
      "5",
      "1e-05",
      "-0",
    ]);
    expect([bind("double precision", "double", 1e300), bind("numeric(4,1)", "decimal(4,1)", "1.5")]).toEqual(["1e+300", "1.5"]);
    expect(bind("timestamp with time zone", "datetime(6)", "2026-01-02 03:04:05.6+00")).toBe("2026-01-02 03:04:05.6");
    for (const type of ["tinyint(1)", "double", "decimal(4,1)", "date", "longblob"]) {
      const source = { "tinyint(1)": "boolean", double: "real", "decimal(4,1)": "numeric(4,1)", date: "date", longblob: "bytea" }[
        type
      ];
      expect(bind(source ?? "", type, null)).toBeNull();
    }
    const refusals = [
      ["double precision", "double", "NaN"],
      ["double precision", "double", "-Infinity"],
      ["double precision", "double", -0],
      ["numeric(4,1)", "decimal(4,1)", "NaN"],
      ["timestamp with time zone", "datetime(6)", "infinity"],
      ["timestamp with time zone", "datetime(6)", "10000-01-01 00:00:00+00"],
      ["date", "date", "0044-03-15 BC"],
    ] as const;
    for (const [source, type, value] of refusals) {
      expect(() => bind(source, type, value)).toThrow(
        expect.objectContaining({
          code: "UNSUPPORTED_VALUE",
          message: expect.stringContaining("column c of table public.orders"),
        }),
      );
    }
    expect(() => bind("bytea", "longblob", "%%")).toThrow("no bytea value");
  });
});
