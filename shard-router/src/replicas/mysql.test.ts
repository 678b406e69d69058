import { describe, expect, test } from "bun:test";
import type { Verdict } from "@cascade/shared/errors";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { SqlError } from "mariadb";
import { mariadbDialect } from "../dialects/mariadb.ts";
import type { FoundColumn, FoundTable } from "./mysql-catalog.ts";
import { isConstraintError, mysqlError } from "./mysql-errors.ts";
import { openMysqlSession } from "./mysql-session.ts";
import { mysqlMisfits } from "./mysql-tables.ts";
import { parseReplicaUrl } from "./open-replica.ts";

const sqlError = (errno: number, sqlMessage = "said the server", sqlState = "HY000"): SqlError =>
  new SqlError(sqlMessage, "INSERT ... - parameters:['secret']", false, {}, sqlState, errno);

describe("errors of MySQL and MariaDB", () => {
  const table: readonly (readonly [number, string, Verdict])[] = [
    [2013, "REPLICA_UNAVAILABLE", "retry"],
    [1927, "REPLICA_UNAVAILABLE", "retry"],
    [1053, "REPLICA_UNAVAILABLE", "retry"],
    [45_012, "REPLICA_UNAVAILABLE", "retry"],
    [1040, "REPLICA_FULL", "retry"],
    [1114, "REPLICA_FULL", "retry"],
    [1213, "REPLICA_CONFLICT", "retry"],
    [1205, "REPLICA_LOCKED", "stop-table"],
    [1969, "REPLICA_TIMEOUT", "stop-table"],
    [1045, "REPLICA_LOGIN_REFUSED", "refuse"],
    [1049, "REPLICA_LOGIN_REFUSED", "refuse"],
    [1820, "REPLICA_LOGIN_REFUSED", "refuse"],
    [4151, "REPLICA_LOGIN_REFUSED", "refuse"],
    [1142, "REPLICA_RIGHT_MISSING", "stop-table"],
    [1146, "REPLICA_TABLE_MISMATCH", "stop-table"],
    [1054, "REPLICA_TABLE_MISMATCH", "stop-table"],
    [1118, "UNSUPPORTED_TABLE", "stop-table"],
    [1406, "UNSUPPORTED_VALUE", "stop-table"],
    [1264, "UNSUPPORTED_VALUE", "stop-table"],
    [1153, "UNSUPPORTED_VALUE", "stop-table"],
    [45_016, "UNSUPPORTED_VALUE", "stop-table"],
    [1062, "CONSTRAINT_VIOLATED", "stop-table"],
    [4025, "CONSTRAINT_VIOLATED", "stop-table"],
    [3819, "CONSTRAINT_VIOLATED", "stop-table"],
    [1290, "REPLICA_READ_ONLY", "retry"],
    [1194, "REPLICA_DAMAGED", "fatal"],
    [1235, "REPLICA_ERROR", "stop-table"],
  ];
  test.each(table)("number %d is %s: %s", (errno, code, verdict) => {
    const error = mysqlError(sqlError(errno), "applying x");
    expect(error).toMatchObject({ code, verdict });
    expect(error.message).toStartWith("applying x: ");
    expect(error.message).toContain(`error ${errno}`);
    expect(error.message).not.toContain("secret");
    expect(error.cause).toBeUndefined();
  });

  test("say names, but no value", () => {
    const said = (errno: number, message: string) => mysqlError(sqlError(errno, message), "applying").message;
    expect(said(1062, "Duplicate entry 'secret' for key 'orders.u'")).toBe(
      "applying: Duplicate entry … key 'orders.u' (error 1062, SQLSTATE HY000)",
    );
    expect(said(1366, "Incorrect integer value: 'secret' for column `db`.`t`.`c` at row 1")).toContain("column `db`.`t`.`c`");
    expect(said(1292, "Truncated incorrect DOUBLE value: 'secret'")).not.toContain("secret");
    expect(said(1406, "Data too long for column 'v' at row 1")).toContain("column 'v'");
    expect(said(1644, "secret")).not.toContain("secret");
    expect(said(1062, "Duplicate entry 'for key 'secret'' for key 'orders.u'")).not.toContain("secret");
    expect(said(1292, "Truncated incorrect DOUBLE value: 'for key 'secret''")).not.toContain("secret");
    expect(said(1526, "Table has no partition for value 4711")).toBe(
      "applying: Table has no partition for value (error 1526, SQLSTATE HY000)",
    );
    expect(said(9_999, "An error of a newer server about 'secret'")).not.toContain("secret");
    expect(said(1048, "Column 'id' cannot be null")).toContain("another row has a unique value of this one");
  });

  test("constraints are what changes in order may pass; a mistake in our own code is no error of the replica", () => {
    expect([1062, 1048, 1452, 4025].every((errno) => isConstraintError(sqlError(errno)))).toBe(true);
    expect([1406, 1213, 1146].some((errno) => isConstraintError(sqlError(errno)))).toBe(false);
    expect(() => mysqlError(new TypeError("x"), "applying")).toThrow(TypeError);
    expect(mysqlError(new Error("no answer in time"), "applying")).toMatchObject({
      code: "REPLICA_UNAVAILABLE",
      verdict: "retry",
    });
  });
});

describe("a table that is there already", () => {
  const column = (name: string, type: string, more: Partial<FoundColumn> = {}): FoundColumn => ({
    name,
    type,
    nullable: true,
    hasDefault: false,
    generated: false,
    virtual: false,
    autoIncrement: false,
    onUpdate: false,
    comment: "",
    charset: /char|text/.test(type) ? "utf8mb4" : null,
    collation: /char|text/.test(type) ? "utf8mb4_nopad_bin" : null,
    ...more,
  });
  const fitting: FoundTable = {
    kind: "BASE TABLE",
    engine: "InnoDB",
    comment: "",
    columns: [column("id", "varchar(768)", { nullable: false }), column("n", "bigint(20)"), column("v", "longtext")],
    uniqueIndexes: [{ name: "PRIMARY", columns: ["id"] }],
  };
  const source = tableSchema("t", { id: "text", n: "integer", v: "text" });
  const misfits = (found: FoundTable, schema = source) => mysqlMisfits(mariadbDialect, schema, "`t`", found);

  test("fits with wider columns and columns of its own", () => {
    const own = [column("own", "int(11)"), column("seq", "int(11)", { nullable: false, hasDefault: true })];
    expect(misfits({ ...fitting, columns: [...fitting.columns, ...own] })).toEqual([]);
  });

  test.each([
    [{ kind: "VIEW" }, "it is not a table", "drop or rename `t`"],
    [{ engine: "MyISAM" }, "its engine MyISAM has no transactions", "ALTER TABLE `t` ENGINE=InnoDB"],
    [
      { uniqueIndexes: [{ name: "PRIMARY", columns: ["id", "n"] }] },
      "no unique index on exactly the key (`id`)",
      "ALTER TABLE `t` ADD UNIQUE (`id`)",
    ],
    [
      { uniqueIndexes: [{ name: "PRIMARY", columns: ["id in part"] }] },
      "no unique index on exactly the key (`id`)",
      "ALTER TABLE `t` ADD UNIQUE (`id`)",
    ],
  ] as const)("%j: %s", (change, problem, cure) => {
    expect(misfits({ ...fitting, ...change })).toEqual([{ problem, cure }]);
  });

  test.each([
    ["utf8mb4_general_ci", false],
    ["utf8mb4_bin", false],
    ["utf8mb4_0900_as_cs", false],
    ["utf8mb4_0900_bin", true],
    ["utf8mb4_nopad_bin", true],
  ])("whose key has the collation %s: %p", (collation, exact) => {
    const columns = fitting.columns.map((given) => (given.name === "id" ? { ...given, collation } : given));
    const found = misfits({ ...fitting, columns });
    expect(found).toHaveLength(exact ? 0 : 1);
    if (!exact) {
      expect(found[0]?.problem).toBe(
        `rows are found by the key, and column \`id\` has the collation ${collation}, which takes different values for one`,
      );
      expect(found[0]?.cure).toBe(
        "ALTER TABLE `t` MODIFY `id` VARCHAR(768) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL",
      );
    }
  });

  test("whose columns are too narrow, generated, of another character set, NOT NULL or missing", () => {
    const found: FoundTable = {
      ...fitting,
      columns: [
        column("id", "varchar(768)", { nullable: false, charset: "latin1", collation: "latin1_nopad_bin" }),
        column("n", "int(11)", { generated: true }),
        column("old", "longtext"),
        column("extra", "int(11)", { nullable: false }),
      ],
    };
    expect(misfits(found).map(({ problem }) => problem)).toEqual([
      "column `id` is in character set latin1, which lacks characters",
      "column `n` is generated, and takes no value",
      "column `v` is missing",
      "its own column `extra` is NOT NULL without a default",
    ]);
    const narrow = {
      ...fitting,
      columns: [fitting.columns[0], column("n", "smallint(6)", { nullable: false }), fitting.columns[2]],
    };
    expect(misfits(narrow as FoundTable).map(({ problem }) => problem)).toEqual([
      "column `n` is smallint(6), which does not hold every integer exactly",
      "column `n` is NOT NULL",
    ]);
  });
});

test("a mysql:// or mariadb:// URL names the database", () => {
  expect(parseReplicaUrl("mysql://u:p@h:3306/shop")).toMatchObject({ dialect: "mysql", defaultName: "shop" });
  expect(parseReplicaUrl("mariadb://u:p@h/shop%20a")).toMatchObject({ dialect: "mariadb", defaultName: "shop a" });
  for (const url of ["mariadb://u@h", "mariadb:///db", "mysql://u:%@h/db"])
    expect(() => parseReplicaUrl(url)).toThrow(SyntaxError);
});

test("an option that is not known is refused: who asked for TLS would go without", () => {
  for (const option of ["ssl=true", "ssl=no-verify", "ssl-ca=/ca.pem", "ssl=false&allowPublicKeyRetrieval=true"])
    expect(parseReplicaUrl(`mysql://u:p@h/db?${option}`)).toMatchObject({ defaultName: "db" });
  for (const option of ["sslmode=require", "ssl-mode=REQUIRED", "ssl=TRUE", "ssl-ca=", "tls=true"])
    expect(() => parseReplicaUrl(`mysql://u:p@h/db?${option}`)).toThrow("known: ssl=true");
});

test("what TLS fails at is no missing answer", async () => {
  const certificate = Object.assign(new Error("self signed certificate"), { code: "DEPTH_ZERO_SELF_SIGNED_CERT" });
  for (const error of [certificate, sqlError(45_023)])
    expect(mysqlError(error, "connecting")).toMatchObject({ code: "REPLICA_TLS", verdict: "refuse" });
  const missing = openMysqlSession("mariadb://u:p@127.0.0.1:1/db?ssl-ca=/nowhere/ca.pem");
  expect(await missing.catch((error: unknown) => error)).toMatchObject({ code: "REPLICA_TLS", verdict: "refuse" });
});
