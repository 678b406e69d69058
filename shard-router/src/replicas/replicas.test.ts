import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import type { Verdict } from "@cascade/shared/errors";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { DatabaseError } from "pg";
import { duckdbError, duckdbMissing, isConstraintError as isDuckdbConstraint } from "./duckdb-errors.ts";
import { parseReplicaUrl } from "./open-replica.ts";
import { isConstraintError as isPostgresConstraint, postgresError } from "./postgres-errors.ts";
import { type FoundColumn, misfitsOf } from "./postgres-tables.ts";
import { isConstraintError as isSqliteConstraint, sqliteError } from "./sqlite-errors.ts";

describe("PostgreSQL's errors", () => {
  const databaseError = (code: string, fields: Partial<DatabaseError> = {}): DatabaseError =>
    Object.assign(new DatabaseError(fields.message ?? "said the server", 0, "error"), { code, column: undefined }, fields);

  const table: readonly (readonly [string, string, Verdict])[] = [
    ["08006", "REPLICA_UNAVAILABLE", "retry"],
    ["57P01", "REPLICA_UNAVAILABLE", "retry"],
    ["57014", "REPLICA_TIMEOUT", "stop-table"],
    ["53300", "REPLICA_FULL", "retry"],
    ["53100", "REPLICA_FULL", "retry"],
    ["40P01", "REPLICA_CONFLICT", "retry"],
    ["25P03", "REPLICA_CONFLICT", "retry"],
    ["25006", "REPLICA_READ_ONLY", "retry"],
    ["55P03", "REPLICA_LOCKED", "stop-table"],
    ["28P01", "REPLICA_LOGIN_REFUSED", "refuse"],
    ["28000", "REPLICA_LOGIN_REFUSED", "refuse"],
    ["3D000", "REPLICA_LOGIN_REFUSED", "refuse"],
    ["42501", "REPLICA_RIGHT_MISSING", "stop-table"],
    ["42P01", "REPLICA_TABLE_MISMATCH", "stop-table"],
    ["42703", "REPLICA_TABLE_MISMATCH", "stop-table"],
    ["3F000", "REPLICA_TABLE_MISMATCH", "stop-table"],
    ["22003", "UNSUPPORTED_VALUE", "stop-table"],
    ["22P05", "UNSUPPORTED_VALUE", "stop-table"],
    ["54000", "UNSUPPORTED_VALUE", "stop-table"],
    ["23505", "CONSTRAINT_VIOLATED", "stop-table"],
    ["23514", "CONSTRAINT_VIOLATED", "stop-table"],
    ["P0001", "REPLICA_FUNCTION_FAILED", "stop-table"],
    ["XX001", "REPLICA_DAMAGED", "fatal"],
    ["XX000", "REPLICA_ERROR", "stop-table"],
    ["0A000", "REPLICA_TABLE_IN_USE", "stop-table"],
    ["2BP01", "REPLICA_TABLE_IN_USE", "stop-table"],
  ];
  test.each(table)("SQLSTATE %s is %s: %s", (state, code, verdict) => {
    const error = postgresError(databaseError(state), "applying", "public.t");
    expect(error).toMatchObject({ code, verdict });
    expect(error.message).toStartWith("applying of table public.t: ");
    expect(error.message).toEndWith(`(SQLSTATE ${state})`);
    expect(error.advice).not.toBe("");
  });

  test("say the constraint and the column, but no value and no words of people's own functions", () => {
    const said = (code: string, fields: Partial<DatabaseError>) => postgresError(databaseError(code, fields), "applying").message;
    expect(said("23505", { message: "duplicate key", detail: "Key (a)=(secret)", constraint: "t_key" })).toBe(
      "applying: duplicate key, constraint t_key (SQLSTATE 23505)",
    );
    expect(said("23502", { message: "null value", column: "qty" })).toContain("column qty");
    expect(said("22P02", { message: 'invalid input syntax for type integer: "secret"\n"x"', where: "secret" })).toBe(
      "applying: invalid input syntax for type integer: … (SQLSTATE 22P02)",
    );
    expect(said("22P02", { message: "ungültige Eingabesyntax für Typ integer: »secret«" })).not.toContain("secret");
    expect(
      said("22P05", { message: 'character with byte sequence 0xe2 0x82 0xac in encoding "UTF8" has no equivalent' }),
    ).not.toContain("0xe2");
    expect(said("P0001", { message: "secret" })).not.toContain("secret");
    expect(said("23514", { message: "secret", routine: "exec_stmt_raise" })).not.toContain("secret");
  });

  test("a lost connection is worth a retry, a mistake in our own code is none of it", () => {
    const cause = new Error("Connection terminated unexpectedly");
    expect(postgresError(cause, "applying")).toMatchObject({ code: "REPLICA_UNAVAILABLE", verdict: "retry", cause });
    expect(() => postgresError(new TypeError("x is undefined"), "applying")).toThrow(TypeError);
    const ours = postgresError(databaseError("40001"), "applying");
    expect(postgresError(ours, "again")).toBe(ours);
  });

  test("constraints are what changes in order may pass", () => {
    expect(["23505", "23503", "23P01", "21000"].every((code) => isPostgresConstraint(databaseError(code)))).toBe(true);
    expect(["22003", "40001", "42P10"].some((code) => isPostgresConstraint(databaseError(code)))).toBe(false);
  });
});

describe("SQLite's errors", () => {
  const thrown = (sql: string): unknown => {
    using database = new Database(":memory:");
    database.run("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT UNIQUE, n INTEGER CHECK (n > 0)) STRICT");
    database.run("INSERT INTO t VALUES (1, 'secret', 1)");
    try {
      database.run(sql);
    } catch (error) {
      return error;
    }
    throw new Error("nothing was refused");
  };
  const table: readonly (readonly [string, string, boolean])[] = [
    ["INSERT INTO t VALUES (1, 'x', 1)", "CONSTRAINT_VIOLATED", true],
    ["INSERT INTO t VALUES (2, 'secret', 1)", "CONSTRAINT_VIOLATED", true],
    ["INSERT INTO t VALUES (2, 'x', -1)", "CONSTRAINT_VIOLATED", true],
    ["INSERT INTO t VALUES (2, 'x', 'secret')", "CONSTRAINT_VIOLATED", true],
    ["INSERT INTO t VALUES ('secret', 'x', 1)", "CONSTRAINT_VIOLATED", false],
    ["INSERT INTO gone VALUES (1)", "REPLICA_TABLE_MISMATCH", false],
    ["INSERT INTO t (gone) VALUES (1)", "REPLICA_TABLE_MISMATCH", false],
  ];
  test.each(table)("%s is %s", (sql, code, constraint) => {
    const error = thrown(sql);
    expect(isSqliteConstraint(error)).toBe(constraint);
    const ours = sqliteError(error, "applying t");
    expect(ours).toMatchObject({ code, verdict: "stop-table" });
    expect(ours.message).toStartWith("applying t: ");
    expect(ours.message).not.toContain("secret");
  });

  const codes: readonly (readonly [string, string, Verdict])[] = [
    ["SQLITE_BUSY", "REPLICA_LOCKED", "retry"],
    ["SQLITE_BUSY_SNAPSHOT", "REPLICA_LOCKED", "retry"],
    ["SQLITE_FULL", "REPLICA_FULL", "retry"],
    ["SQLITE_IOERR_FSYNC", "REPLICA_UNAVAILABLE", "retry"],
    ["SQLITE_CANTOPEN", "REPLICA_CANNOT_OPEN", "refuse"],
    ["SQLITE_READONLY_DIRECTORY", "REPLICA_CANNOT_OPEN", "refuse"],
    ["SQLITE_NOTADB", "REPLICA_CANNOT_OPEN", "refuse"],
    ["SQLITE_CORRUPT_INDEX", "REPLICA_DAMAGED", "fatal"],
    ["SQLITE_TOOBIG", "UNSUPPORTED_VALUE", "stop-table"],
  ];
  test.each(codes)("%s is %s: %s", (given, code, verdict) => {
    // Bun tells its SQLiteError by the name.
    const error = Object.assign(new Error("said the engine"), { name: "SQLiteError", code: given });
    expect(sqliteError(error, "applying")).toMatchObject({ code, verdict });
  });

  test("what a trigger says stays unsaid", () => {
    const raise = "CREATE TEMP TRIGGER x BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'bad ' || OLD.v); END; DELETE FROM t";
    const { code, message } = sqliteError(thrown(raise), "applying");
    expect([code, message.includes("secret")]).toEqual(["REPLICA_FUNCTION_FAILED", false]);
  });

  test("a mistake in our own code is thrown on", () => {
    expect(() => sqliteError(new RangeError("ours"), "applying")).toThrow(RangeError);
  });
});

describe("DuckDB's errors", () => {
  const json = (type: string, message: string, more: object = {}) =>
    new Error(JSON.stringify({ exception_type: type, exception_message: message, ...more }));
  const table: readonly (readonly [unknown, string, Verdict])[] = [
    [json("Constraint", 'Duplicate key "id: 1" violates primary key constraint.'), "CONSTRAINT_VIOLATED", "stop-table"],
    [json("TransactionContext", "Conflict on update!"), "REPLICA_CONFLICT", "retry"],
    [json("Conversion", "Could not convert string 'secret' to INT64"), "UNSUPPORTED_VALUE", "stop-table"],
    [json("Invalid Input", 'Failed to cast value to numerical: "secret"'), "UNSUPPORTED_VALUE", "stop-table"],
    [json("Catalog", "Table with name t does not exist!"), "REPLICA_TABLE_MISMATCH", "stop-table"],
    [json("Binder", 'Table "t" does not have a column with name "n"'), "REPLICA_TABLE_MISMATCH", "stop-table"],
    [json("Out of Memory", "could not allocate block"), "REPLICA_FULL", "stop-table"],
    [json("IO", "Could not write file", { errno: "28" }), "REPLICA_FULL", "retry"],
    [json("IO", "Could not read from file", { errno: "5" }), "REPLICA_UNAVAILABLE", "retry"],
    [new Error("FATAL Error: Failed: database has been invalidated"), "REPLICA_UNAVAILABLE", "retry"],
    [new Error("INTERNAL Error: secret"), "REPLICA_ERROR", "stop-table"],
  ];
  test.each(table)("%s is %s: %s", (error, code, verdict) => {
    const ours = duckdbError(error, "applying t");
    expect(ours).toMatchObject({ code, verdict });
    expect(ours.message).toStartWith("applying t: ");
    expect(ours.message).not.toContain("secret");
  });

  test("say the constraint's first column, and nothing of what is in it", () => {
    const said = (key: string) =>
      duckdbError(json("Constraint", `Duplicate key "${key}" violates unique constraint.`), "applying");
    for (const key of ["qty: secret", 'qty: secret", "b: secret', 'qty: x: "secret"\nsecret', "qty: 1, b: secret"]) {
      expect(said(key).message).toBe('applying: Duplicate key "qty: …" violates unique constraint. (Constraint error)');
      const made = duckdbError(json("Constraint", `UNIQUE constraint violation: duplicate key "${key}"`), "changing");
      expect(made.message).toBe("changing: UNIQUE constraint violation: duplicate key (Constraint error)");
    }
  });

  test("constraints are what changes in order may pass; a mistake in our own code is thrown on", () => {
    expect(isDuckdbConstraint(json("Constraint", "x"))).toBe(true);
    expect(isDuckdbConstraint(json("Conversion", "x"))).toBe(false);
    expect(() => duckdbError(new TypeError("x is undefined"), "applying")).toThrow(TypeError);
    expect(() => duckdbError(new Error("no error of the engine"), "applying")).toThrow("no error of the engine");
  });

  test("without its client the router refuses to start, and says how to get it", () => {
    const error = duckdbMissing(new Error("Cannot find package"));
    expect(error).toMatchObject({ code: "REPLICA_CLIENT_MISSING", verdict: "refuse" });
    expect(error.advice).toContain("--build-arg WITH_DUCKDB=true");
  });
});

describe("misfitsOf", () => {
  const source = tableSchema("t", { id: "integer", v: "text" });
  const column = (name: string, type: string, given: Partial<FoundColumn> = {}): FoundColumn => ({
    name,
    type,
    notNull: false,
    hasDefault: false,
    generated: false,
    identity: false,
    identityAlways: false,
    primaryKey: null,
    collationIsExact: true,
    ...given,
  });
  const misfits = (columns: readonly FoundColumn[], uniqueKeys: readonly (readonly string[])[] = [["id"]], kind = "r") =>
    misfitsOf(source, '"public"."t"', { kind, referenced: false, columns, uniqueKeys });
  const id = column("id", "integer");
  const v = column("v", "text");

  test("a column that main-db added or renamed comes with what is known of its older rows", () => {
    const cureOf = (expression: string | null, columns: readonly FoundColumn[]) => {
      const columnsNow = source.columns.map((of) => (of.name === "v" ? { ...of, default: expression } : of));
      const found = { kind: "r", referenced: false, columns, uniqueKeys: [["id"]] };
      return misfitsOf({ ...source, columns: columnsNow }, "t", found)[0]?.cure;
    };
    expect(cureOf("'it''s'::public.mood", [id])).toBe(`ALTER TABLE t ADD COLUMN "v" text DEFAULT 'it''s'`);
    expect(cureOf("-1.5", [id])).toBe('ALTER TABLE t ADD COLUMN "v" text DEFAULT -1.5');
    expect(cureOf("now()", [id])).toBe('ALTER TABLE t ADD COLUMN "v" text');
    expect(cureOf("('a'::text || 'b'::text)", [id])).toBe('ALTER TABLE t ADD COLUMN "v" text');
    expect(cureOf(null, [id, column("old", "text")])).toBe(
      'ALTER TABLE t ADD COLUMN "v" text, or when main-db renamed it: ALTER TABLE t RENAME COLUMN "old" TO "v"',
    );
  });

  test("finds nothing wrong with a table that fits, or a partitioned one", () => {
    expect(misfits([v, id, column("own", "integer", { notNull: true, hasDefault: true })])).toEqual([]);
    expect(misfits([id, v], [["v"], ["id"]], "p")).toEqual([]);
  });

  test.each([
    [[id], 'column "v" is missing', 'ALTER TABLE "public"."t" ADD COLUMN "v" text'],
    [
      [column("id", "smallint"), v],
      'column "id" is smallint, which does not hold every integer exactly',
      'ALTER TABLE "public"."t" ALTER COLUMN "id" TYPE integer USING "id"::integer',
    ],
    [
      [id, column("v", "text", { notNull: true })],
      'column "v" is NOT NULL',
      'ALTER TABLE "public"."t" ALTER COLUMN "v" DROP NOT NULL',
    ],
    [
      [id, column("v", "text", { generated: true })],
      'column "v" is generated, and takes no value',
      'ALTER TABLE "public"."t" ALTER COLUMN "v" DROP EXPRESSION',
    ],
    [
      [id, v, column("x", "text", { notNull: true })],
      'its own column "x" is NOT NULL without a default',
      'ALTER TABLE "public"."t" ALTER COLUMN "x" DROP NOT NULL',
    ],
  ])("%#", (columns, problem, cure) => {
    expect(misfits(columns)).toMatchObject([{ problem, cure }]);
  });

  test("a foreign table or a view is no table", () => {
    for (const kind of ["v", "m", "f"]) expect(misfits([id, v], [["id"]], kind)).toHaveLength(1);
  });
});

describe("parseReplicaUrl", () => {
  test.each([
    ["postgres://u:p@host:5432/shop?sslmode=require", "postgres", "shop"],
    ["postgresql://u@host", "postgres", "u"],
    ["POSTGRES://host/my%20db", "postgres", "my db"],
    ["postgres:///db?host=/var/run/postgresql", "postgres", "db"],
    ["sqlite:///var/lib/cascade/shop.db", "sqlite", "shop"],
    ["sqlite:relative.db", "sqlite", "relative"],
    ["sqlite:/abs/a%20b.sqlite3", "sqlite", "a b"],
    ["sqlite:.hidden", "sqlite", ".hidden"],
    ["duckdb:///var/lib/cascade/shop.duckdb", "duckdb", "shop"],
    ["duckdb:relative.db", "duckdb", "relative"],
  ])("%s is %s, named %s", (url, dialect, defaultName) => {
    expect(parseReplicaUrl(url)).toMatchObject({ dialect, defaultName } as never);
  });

  test.each([
    ["shop.db", "has no scheme"],
    ["", "has no scheme"],
    ["oracle://u:s3cret@h/d", "unknown scheme oracle"],
    ["postgres://u:s3cret@h:port/d", "cannot be read"],
    ["postgres:///shop", "names no host"],
    ["postgres://host", "names no database"],
    ["postgres://u:s3cret%@h/d", "%25"],
    ["postgres://u:p@h/s3cret%zz", "%25"],
    ["sqlite://host/file.db", "names a host"],
    ["sqlite:", "names no file"],
    ["duckdb://host/file.db", "names a host"],
    ["duckdb::memory:", "file on disk"],
    ["sqlite:///folder/", "names no file"],
    ["sqlite:///a%00b.db", "names no file"],
    ["sqlite:///100%.db", "%25"],
    ["sqlite::memory:", "file on disk"],
    ["sqlite:///a.db?mode=memory", "file on disk"],
  ])("%j is refused: %s", (url, reason) => {
    let error: unknown;
    try {
      parseReplicaUrl(url);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SyntaxError);
    expect(String(error)).toContain(reason);
    expect(String(error)).not.toContain("s3cret");
  });
});
