import { afterEach, describe, expect, test } from "bun:test";
import type { CascadeError } from "@cascade/shared/errors";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { applier, event, isMysql, REPLICA_KINDS, type ReplicaKind, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Tables that are there before the router: used where every column of the source fits, else refused with all that is wrong and its cure. */

const labs: ReplicaLab[] = [];
afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.close();
});
async function labWith(kind: ReplicaKind, setup: string): Promise<ReplicaLab> {
  const lab = await replicaLab(kind);
  labs.push(lab);
  await lab.sql(setup);
  return lab;
}

const orders = tableSchema("orders", { id: "integer", price: "numeric(8,2)", note: "character varying(10)" });
const row = { id: 1, price: "3.50", note: "n" };

async function refusal(act: Promise<unknown>): Promise<CascadeError> {
  return act.then(
    () => {
      throw new Error("nothing was refused");
    },
    (error: CascadeError) => error,
  );
}

/** The problems and the cures of a refusal. */
const findings = ({ message, advice }: CascadeError) => ({
  problems: message.replace(/^.*? does not fit [^:]*: /, "").split("; "),
  cures: advice.replace(/^.*?run on the replica, and the table goes on by itself: /, "").split("; "),
});

/** A key needs a length there, and a collation that tells texts apart. */
const EXACT_NOTE = (kind: ReplicaKind) => `varchar(10) COLLATE ${kind === "mysql" ? "utf8mb4_0900_bin" : "utf8mb4_nopad_bin"}`;

describe.each(REPLICA_KINDS)("%s replica", (kind) => {
  test("uses a table with wider columns, columns, indexes and views of its own", async () => {
    const lab = await labWith(
      kind,
      `CREATE TABLE orders (own text DEFAULT 'mine', note text, price ${kind === "postgres" ? "numeric" : "text"} NOT NULL, id bigint PRIMARY KEY, other text);
       CREATE INDEX own_index ON orders (own); CREATE VIEW own_view AS SELECT * FROM orders`,
    );
    const { apply } = await applier(await lab.open(), {
      ...orders,
      columns: orders.columns.map((column) => ({ ...column, nullable: false })),
    });
    await apply([event("c", null, row)]);
    await lab.sql("UPDATE orders SET other = 'kept'");
    await apply([event("u", { id: 1 }, { id: 1, price: "19.90" })]);
    const found = await lab.sql("SELECT * FROM own_view");
    expect(comparableRows(found)).toEqual(comparableRows([{ ...row, price: "19.90", own: "mine", other: "kept" }]));
  });

  test("goes on with a table once the cures' SQL was run", async () => {
    const needed = kind === "postgres" ? "NOT NULL" : "";
    const lab = await labWith(
      kind,
      `CREATE TABLE orders (id integer NOT NULL, price numeric ${needed}, extra text NOT NULL)`.replace(
        "numeric",
        kind === "postgres" ? "numeric" : "text",
      ),
    );
    const replica = await lab.open();
    const error = await refusal(replica.prepare(orders));
    expect(error).toMatchObject({ code: "REPLICA_TABLE_MISMATCH", verdict: "stop-table" });
    expect(error.message).toContain(`the replica's table ${lab.nameOf(orders)} does not fit public.orders`);
    const { problems, cures } = findings(error);
    expect(problems).toEqual([
      ...(kind === "postgres" ? ['column "price" is NOT NULL'] : []),
      `column ${lab.quote("note")} is missing`,
      `its own column ${lab.quote("extra")} is NOT NULL without a default`,
      expect.stringContaining(`no unique index on exactly the key (${lab.quote("id")})`),
    ]);
    for (const cure of cures) await lab.sql(cure.replace(/, or .*/, ""));
    const { apply } = await applier(replica, orders);
    await apply([event("c", null, row), event("u", { id: 1 }, { id: 1, note: "z" })]);
    expect(comparableRows(await lab.rows(orders))).toEqual(comparableRows([{ ...row, note: "z" }]));
  });

  test("a view in the table's place is refused", async () => {
    const lab = await labWith(kind, "CREATE VIEW orders AS SELECT 1 AS id");
    expect(findings(await refusal((await lab.open()).prepare(orders))).problems).toEqual(["it is not a table"]);
  });

  test("another key, or one on more columns, is no key", async () => {
    for (const key of ["UNIQUE (note)", "PRIMARY KEY (id, note)"]) {
      const lab = await labWith(
        kind,
        `CREATE TABLE orders (id integer, price text, note ${isMysql(kind) ? EXACT_NOTE(kind) : "text"}, ${key})`,
      );
      const { problems } = findings(
        await refusal((await lab.open()).prepare({ ...orders, columns: orders.columns.map((c) => ({ ...c, nullable: false })) })),
      );
      expect(problems).toEqual([expect.stringContaining("no unique index on exactly the key")]);
    }
  });
});

test("PostgreSQL: the cures mend types, generated columns, identities and collations", async () => {
  const source = tableSchema("t", {
    id: "text",
    n: "bigint",
    b: "bytea",
    g: "integer",
    i: "integer",
    v: "character varying(10)",
  });
  const lab = await labWith(
    "postgres",
    `CREATE COLLATION public.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
     CREATE TABLE t (id text COLLATE public.folded PRIMARY KEY, n integer, b text, g integer GENERATED ALWAYS AS (1) STORED,
       i integer GENERATED ALWAYS AS IDENTITY, v varchar(5));
     INSERT INTO t VALUES ('a', 5, '\\x00ff', DEFAULT, DEFAULT, 'v')`,
  );
  const replica = await lab.open();
  const { problems, cures } = findings(await refusal(replica.prepare(source)));
  expect(problems).toEqual([
    'rows are found by the key, and column "id" has a collation that takes different values for one',
    'column "n" is integer, which does not hold every bigint exactly',
    'column "b" is text, which does not hold every bytea exactly',
    'column "g" is generated, and takes no value',
    'column "i" is an identity that takes no value',
    'column "i" is NOT NULL',
    'column "v" is character varying(5), which does not hold every character varying(10) exactly',
  ]);
  for (const cure of cures) await lab.sql(cure);
  const { apply } = await applier(replica, source);
  const whole = { id: "A", n: "9007199254740993", b: "AP8=", g: 7, i: 8, v: "0123456789" };
  await apply([event("c", null, whole)]);
  expect((await lab.rows(source)).map((found) => found["id"]).sort()).toEqual(["A", "a"]);
});

test("PostgreSQL: a table without a key mends a table that has one", async () => {
  const lab = await labWith("postgres", "CREATE TABLE log (a integer, b integer, PRIMARY KEY (a, b))");
  const replica = await lab.open();
  const source = tableSchema("log", { a: "integer", b: "integer" }, { key: [] });
  for (const cure of findings(await refusal(replica.prepare(source))).cures) await lab.sql(cure);
  const { apply } = await applier(replica, source);
  await apply([event("c", null, { a: null, b: 1 }), event("c", null, { a: null, b: 1 })]);
  expect(await lab.rows(source)).toHaveLength(2);
});

test("SQLite: what cannot be altered is to be made anew, and names that SQLite cannot tell apart are refused", async () => {
  const lab = await labWith(
    "sqlite",
    `CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, n DECIMAL, g TEXT AS ('x'), r TEXT NOT NULL);
     CREATE TABLE folded (id TEXT PRIMARY KEY COLLATE NOCASE);
     CREATE TABLE log (rowid TEXT, v TEXT); CREATE TABLE pinned (v TEXT PRIMARY KEY) WITHOUT ROWID`,
  );
  const replica = await lab.open();
  const source = tableSchema("t", { id: "text", n: "numeric", g: "text", r: "text" });
  expect(findings(await refusal(replica.prepare(source))).problems).toEqual([
    'rows are found by the key, and column "id" has a collation that takes different values for one',
    'column "n" is DECIMAL, which does not hold every numeric exactly',
    'column "g" is generated, and takes no value',
    'column "r" is NOT NULL',
    'no unique index on exactly the key ("id"), case counting',
  ]);
  await lab.sql("DROP TABLE t");
  expect((await replica.prepare(source)).columns).toHaveLength(4);

  const keyless = (name: string) => tableSchema(name, { v: "text" }, { key: [] });
  expect(findings(await refusal(replica.prepare(keyless("log")))).problems).toEqual([
    `its own column "rowid" hides SQLite's row number`,
  ]);
  expect(findings(await refusal(replica.prepare(keyless("pinned")))).problems).toContain(
    "it is WITHOUT ROWID, and the source's has no key",
  );

  for (const [first, second] of [
    [tableSchema("Cases", { id: "integer" }), tableSchema("cases", { id: "integer" })],
    [tableSchema("a_b", { id: "integer" }, { schema: "public" }), tableSchema("b", { id: "integer" }, { schema: "a" })],
  ] as const) {
    await replica.prepare(first);
    const error = await refusal(replica.prepare(second));
    expect(error).toMatchObject({ code: "REPLICA_NAME_TAKEN", verdict: "stop-table" });
    expect(error.message).toContain(`the name of ${first.schema}.${first.table}`);
    await replica.prepare(first);
  }
  for (const name of ["cascade_progress", "CASCADE_tables", "sqlite_x"]) {
    expect((await refusal(replica.prepare(tableSchema(name, { id: "integer" })))).code).toBe("REPLICA_NAME_TAKEN");
  }
});

test("PostgreSQL keeps names apart that differ by case only", async () => {
  const lab = await labWith("postgres", "SELECT 1");
  const replica = await lab.open();
  const [one, two] = [tableSchema("Cases", { id: "integer", Id: "text" }), tableSchema("cases", { id: "integer", Id: "text" })];
  await (await applier(replica, one)).apply([event("c", null, { id: 1, Id: "upper" })]);
  await (await applier(replica, two)).apply([event("c", null, { id: 1, Id: "lower" })]);
  expect((await lab.rows(one)).concat(await lab.rows(two))).toEqual([
    { id: "1", Id: "upper" },
    { id: "1", Id: "lower" },
  ]);
});

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: a key that takes different texts for one is refused, and the cure mends it",
  async () => {
    const source = tableSchema(
      "t",
      { id: "character varying(20)", u: "uuid", v: "text" },
      { key: ["id", "u"], notNull: ["id", "u"] },
    );
    const lab = await labWith(
      "mariadb",
      "CREATE TABLE t (id varchar(20) COLLATE utf8mb4_general_ci, u char(36) COLLATE utf8mb4_bin, v longtext COLLATE utf8mb4_general_ci, PRIMARY KEY (id, u))",
    );
    const replica = await lab.open();
    const { problems, cures } = findings(await refusal(replica.prepare(source)));
    expect(problems).toEqual([
      "rows are found by the key, and column `id` has the collation utf8mb4_general_ci, which takes different values for one",
    ]);
    for (const cure of cures) await lab.sql(cure);
    const { apply } = await applier(replica, source);
    const ids = ["a", "A", "á", "a ", "e", "é", "E"];
    await apply(ids.map((id) => event("c", null, { id, u: "u", v: id })));
    await apply([event("d", { id: "A", u: "u" }, null), event("u", { id: "a ", u: "u" }, { id: "a ", u: "u", v: "blank" })]);
    expect(comparableRows(await lab.rows(source))).toEqual(
      comparableRows(ids.filter((id) => id !== "A").map((id) => ({ id, u: "u", v: id === "a " ? "blank" : id }))),
    );
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: tables of two names that differ by case or schema only, reserved names, and names as long as they get",
  async () => {
    const lab = await labWith("mariadb", "SELECT 1");
    const replica = await lab.open();
    const [one, two] = [tableSchema("Cases", { id: "integer" }), tableSchema("cases", { id: "integer" })];
    await (await applier(replica, one)).apply([event("c", null, { id: 1 })]);
    await (await applier(replica, two)).apply([event("c", null, { id: 2 })]);
    expect((await lab.rows(one)).concat(await lab.rows(two))).toEqual([{ id: 1 }, { id: 2 }]);
    await replica.prepare(tableSchema("a_b", { id: "integer" }));
    const error = await refusal(replica.prepare(tableSchema("b", { id: "integer" }, { schema: "a" })));
    expect(error).toMatchObject({ code: "REPLICA_NAME_TAKEN", verdict: "stop-table" });
    for (const name of ["cascade_progress", "cascade_tables"]) {
      expect((await refusal(replica.prepare(tableSchema(name, { id: "integer" })))).code).toBe("REPLICA_NAME_TAKEN");
    }
    const long = tableSchema("x".repeat(63), { ["y".repeat(63)]: "integer" });
    await (await applier(replica, long)).apply([event("c", null, { ["y".repeat(63)]: 1 })]);
    expect(await lab.rows(long)).toHaveLength(1);
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: columns of the user's own types are used, and stop loudly at what they cannot hold",
  async () => {
    const source = tableSchema("t", {
      id: "integer",
      at: "timestamp with time zone",
      d: "date",
      f: "double precision",
      n: "numeric(6,2)",
    });
    const lab = await labWith("mariadb", "CREATE TABLE t (id int PRIMARY KEY, at datetime(6), d date, f double, n decimal(6,2))");
    const { apply } = await applier(await lab.open(), source);
    const whole = { id: 1, at: "2026-01-02 03:04:05.678901+00", d: "2026-01-02", f: 1e-300, n: "19.90" };
    await apply([event("c", null, whole)]);
    expect(await lab.sql("SELECT CAST(at AS CHAR) AS at, CAST(d AS CHAR) AS d, f, CAST(n AS CHAR) AS n FROM t")).toEqual([
      { at: "2026-01-02 03:04:05.678901", d: "2026-01-02", f: 1e-300, n: "19.90" },
    ]);
    for (const bad of [{ at: "infinity" }, { d: "0044-03-15 BC" }, { f: "NaN" }, { f: -0 }, { n: "NaN" }]) {
      const error = await refusal(apply([event("c", null, { ...whole, id: 2, ...bad })]));
      expect(error).toMatchObject({
        code: "UNSUPPORTED_VALUE",
        verdict: "stop-table",
        message: expect.stringContaining("of table public.t"),
      });
    }
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: the cures keep a column's own type and values, stop ON UPDATE, and mend generated columns and keys without a usable index",
  async () => {
    const source = tableSchema(
      "t",
      { id: "text", at: "timestamp without time zone", n: "timestamp without time zone", g: "integer", h: "integer" },
      { key: ["id", "at"], notNull: ["id", "at"] },
    );
    const lab = await labWith(
      "mariadb",
      `CREATE TABLE t (id longtext COLLATE utf8mb4_nopad_bin NOT NULL, at datetime(6) NOT NULL ON UPDATE CURRENT_TIMESTAMP(6),
         n datetime(6) NOT NULL, g int AS (1) VIRTUAL, h int AS (2) STORED, UNIQUE (id, at))`,
    );
    const replica = await lab.open();
    const { problems, cures } = findings(await refusal(replica.prepare(source)));
    expect(problems).toEqual([
      "rows are found by the key, and column `id` is longtext, whose index finds none",
      "column `at` takes the time of every change (ON UPDATE)",
      "column `n` is NOT NULL",
      "column `g` is generated, and takes no value",
      "column `h` is generated, and takes no value",
    ]);
    for (const cure of cures) await lab.sql(cure);
    const { apply } = await applier(replica, source);
    const whole = { id: "a", at: "2026-01-01 00:00:00.5", n: "2026-01-02 00:00:00", g: 3, h: 4 };
    await apply([event("c", null, whole)]);
    await apply([event("u", null, { ...whole, g: 5 })]);
    await apply([event("u", null, { id: "a", at: whole.at, h: 6 })]);
    expect(await lab.sql("SELECT id, CAST(at AS CHAR) AS at, CAST(n AS CHAR) AS n, g, h FROM t")).toEqual([
      { id: "a", at: "2026-01-01 00:00:00.500000", n: "2026-01-02 00:00:00.000000", g: 5, h: 6 },
    ]);
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: an upsert touches no other row when a unique index is added while the router runs, AUTO_INCREMENT or not",
  async () => {
    for (const numbered of ["", "AUTO_INCREMENT"]) {
      const source = tableSchema("t", { id: "integer", u: "integer" });
      const lab = await labWith("mariadb", `CREATE TABLE t (id int ${numbered} PRIMARY KEY, u int)`);
      const { apply } = await applier(await lab.open(), source);
      await apply([event("c", null, { id: 0, u: 10 }), event("c", null, { id: 1, u: 11 })]);
      await lab.sql("ALTER TABLE t ADD UNIQUE (u)");
      const error = await refusal(apply([event("c", null, { id: 7, u: 11 }), event("c", null, { id: 8, u: 12 })]));
      expect(error).toMatchObject({ code: "CONSTRAINT_VIOLATED", verdict: "stop-table" });
      expect(comparableRows(await lab.rows(source))).toEqual(
        comparableRows([
          { id: 0, u: 10 },
          { id: 1, u: 11 },
        ]),
      );
      await apply([event("u", null, { id: 1, u: 13 }), event("c", null, { id: 7, u: 11 }), event("u", null, { id: 0, u: 12 })]);
      expect(comparableRows(await lab.rows(source))).toEqual(
        comparableRows([
          { id: 0, u: 12 },
          { id: 1, u: 13 },
          { id: 7, u: 11 },
        ]),
      );
    }
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))("MariaDB: the server's own defaults for new sessions change nothing", async () => {
  const lab = await labWith("mariadb", "CREATE TABLE pad (a int)");
  const settings = {
    sql_safe_updates: 1,
    sql_select_limit: 1,
    completion_type: "'RELEASE'",
    sql_mode: "'ORACLE'",
    autocommit: 0,
    max_join_size: 1,
  };
  const names = Object.keys(settings);
  const [before] = await lab.sql(`SELECT ${names.map((name) => `CAST(@@GLOBAL.${name} AS CHAR) AS ${name}`).join(", ")}`);
  const set = async (values: Readonly<Record<string, unknown>>) => {
    for (const [name, value] of Object.entries(values)) await lab.sql(`SET GLOBAL ${name} = ${value}`);
  };
  try {
    await set(settings);
    const source = tableSchema("t", { id: "integer", v: "text" });
    const { apply } = await applier(await lab.open(), source);
    await apply([event("c", null, { id: 1, v: "a" }), event("c", null, { id: 2, v: "b" })]);
    expect(await lab.rows(source)).toHaveLength(2);
    await apply([event("t", null, null), event("c", null, { id: 3, v: "" })]);
    expect(await lab.rows(source)).toEqual([{ id: 3, v: "" }]);
  } finally {
    await set(
      Object.fromEntries(
        names.map((name) => [name, /^\d+$/.test(String(before?.[name])) ? before?.[name] : `'${before?.[name]}'`]),
      ),
    );
  }
});

test.if(REPLICA_KINDS.includes("mariadb"))("MariaDB: the cure of a value beyond a column works, and loses no row", async () => {
  const key = tableSchema("k", { n: "numeric(6,2)", d: "date" }, { key: ["n", "d"], notNull: ["n", "d"] });
  const plain = tableSchema("p", { id: "integer", at: "timestamp with time zone", f: "double precision" });
  const times = tableSchema("s", { at: "timestamp with time zone", v: "text" }, { key: ["at"], notNull: ["at"] });
  const lab = await labWith(
    "mariadb",
    `CREATE TABLE k (n decimal(6,2), d date, PRIMARY KEY (n, d)); CREATE TABLE p (id int PRIMARY KEY, at datetime(6), f double);
     CREATE TABLE s (at datetime(6) PRIMARY KEY, v longtext)`,
  );
  const replica = await lab.open();
  const { apply } = await applier(replica, key);
  await apply([event("c", null, { n: "1.50", d: "2026-01-01" })]);
  for (const bad of [
    { n: "NaN", d: "2026-01-01" },
    { n: "2.00", d: "infinity" },
  ]) {
    const { advice } = await refusal(apply([event("c", null, bad)]));
    const [, change] = /^MODIFY the replica's column (.*?)(?: \(on MySQL \w+\))/.exec(advice) ?? [];
    expect(change).toContain("VARCHAR(");
    await lab.sql(`ALTER TABLE k MODIFY ${change} NOT NULL`);
    const healed = await applier(replica, key);
    await healed.apply([event("c", null, bad), event("c", null, { n: "1.50", d: "2026-01-01" })]);
  }
  expect(await lab.rows(key)).toHaveLength(3);

  // Their text is not PostgreSQL's: a row would no longer be found by it.
  const inKey = await refusal((await applier(replica, times)).apply([event("c", null, { at: "infinity", v: "" })]));
  expect(inKey.advice).toStartWith("drop the replica's table");
  expect(inKey.advice).not.toContain("MODIFY");
  const other = await refusal((await applier(replica, plain)).apply([event("c", null, { id: 1, at: "infinity", f: 1 })]));
  expect(other.advice).toContain("MODIFY the replica's column at LONGTEXT");
  expect(other.advice).toContain("keep the server's text form");
});

test("SQLite: a column that is no longer NOT NULL on main-db takes NULL once the cure's SQL was run, and keeps its values", async () => {
  const lab = await labWith("sqlite", "SELECT 1");
  const replica = await lab.open();
  const narrow = tableSchema("t", { id: "integer", "a b": "double precision", v: "text" }, { notNull: ["id", "a b", "v"] });
  const before = await applier(replica, narrow);
  await before.apply([event("c", null, { id: 1, "a b": "NaN", v: "x" }), event("c", null, { id: 2, "a b": 5, v: "y" })]);
  const wide = tableSchema("t", { id: "integer", "a b": "double precision", v: "text" });
  const { problems, cures } = findings(await refusal(replica.prepare(wide)));
  expect(problems).toEqual(['column "a b" is NOT NULL', 'column "v" is NOT NULL']);
  for (const cure of cures) await lab.sql(cure);
  const { apply } = await applier(replica, wide);
  await apply([event("c", null, { id: 3, "a b": null, v: null })]);
  expect(await lab.sql('SELECT id, "a b" / 2 AS half, typeof("a b") AS kept, v FROM t ORDER BY id')).toEqual([
    { id: 1n, half: 0n, kept: "text", v: "x" },
    { id: 2n, half: 2.5, kept: "real", v: "y" },
    { id: 3n, half: null, kept: "null", v: null },
  ]);
});
