import { afterEach, expect, test } from "bun:test";
import type { SchemaMessage } from "@cascade/shared/table-schema";
import { DdlLab } from "./ddl-lab.ts";
import { cleanUp, lab } from "./source-lab.ts";

afterEach(cleanUp);

/** Schema changes on a real server, told by the event trigger: what is said, and what the rows are written under, in order. */

const columnsOf = (said: SchemaMessage): string =>
  said.kind === "schema" ? `${said.schema.table}(${said.schema.columns.map(({ name }) => name)})` : `-${said.table}`;

/** The whole log: `+t(a,b)` for a schema, `-t` for a table that is gone, `t{...}` for a row. A row must fit the schema that it names. */
function story(l: DdlLab): string[] {
  return l.log.map((one) => {
    if ("said" in one)
      return one.said.kind === "schema" ? `+${columnsOf(one.said)}${one.said.rewritten ? "!" : ""}` : columnsOf(one.said);
    const { event } = one;
    const schema = l.schemaOf(event);
    const names = Object.keys(JSON.parse(event.after ?? event.before ?? "{}"));
    if (
      event.op === "c" &&
      names.toSorted().join() !==
        schema.columns
          .map(({ name }) => name)
          .toSorted()
          .join()
    )
      throw new Error(`${event.after} is not of ${schema.columns.map(({ name }) => name)}`);
    return `${event.op === "c" ? "" : event.op}${event.table.table}${event.after ?? event.before ?? ""}`;
  });
}

/** Runs statements one transaction each (a list: in one), and tells the story from the first statement on. */
async function told(
  setup: string,
  transactions: readonly string[],
  options: ConstructorParameters<typeof DdlLab>[1] = {},
): Promise<{ l: DdlLab; lines: string[] }> {
  const own = await lab(`CREATE TABLE public.the_end (id int PRIMARY KEY); ${setup}`);
  const l = new DdlLab(own, options);
  const life = await l.life();
  const first = l.log.length;
  for (const transaction of transactions) await own.sql(transaction);
  await own.sql("INSERT INTO public.the_end VALUES (1)");
  await life.until(() => l.events.some(({ table }) => table.table === "the_end"));
  expect(await life.parts.differing()).toEqual([]);
  const lines = story(l)
    .slice(first)
    .filter((line) => !line.includes("the_end"));
  return { l, lines };
}

test("every table is announced at the first start, empty ones too", async () => {
  const l = new DdlLab(
    await lab(
      "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, t text); CREATE SCHEMA x; CREATE TABLE x.c (id int)",
    ),
  );
  await l.life();
  expect(story(l)).toEqual(["+a(id)", "+b(id,t)"]);
});

test("columns come, are renamed and go within one transaction, rows in between under what they were written under", async () => {
  const { lines } = await told("CREATE TABLE t (id int PRIMARY KEY)", [
    `BEGIN; INSERT INTO t VALUES (1); ALTER TABLE t ADD n int DEFAULT 7; INSERT INTO t VALUES (2); ALTER TABLE t RENAME n TO m;
     INSERT INTO t VALUES (3, 8); ALTER TABLE t DROP m; INSERT INTO t VALUES (4); COMMIT`,
  ]);
  expect(lines).toEqual(['t{"id":1}', "+t(id,n)", 't{"id":2,"n":7}', "+t(id,m)", 't{"id":3,"m":8}', "+t(id)", 't{"id":4}']);
});

test("what rows from before have in a new column is said as a wire value", async () => {
  const { l } = await told("CREATE TABLE t (id int PRIMARY KEY)", [
    `ALTER TABLE t ADD a int DEFAULT 7, ADD b bigint DEFAULT 8, ADD c bytea DEFAULT '\\x00ff', ADD d bool DEFAULT true, ADD e float8 DEFAULT 'NaN',
       ADD f text DEFAULT 'é"', ADD g int[] DEFAULT '{1,2}', ADD h timestamptz DEFAULT '2026-01-01 00:00+02', ADD i numeric(6,2) DEFAULT 1.5, ADD j text`,
  ]);
  const last = l.said.at(-1);
  const missing = last?.kind === "schema" ? last.schema.columns.map(({ missing }) => missing) : [];
  expect(missing).toEqual([undefined, 7, "8", "AP8=", true, "NaN", 'é"', "{1,2}", "2025-12-31 22:00:00+00", "1.50", undefined]);
});

test("rolled back savepoints leave nothing, what came after them everything", async () => {
  const { lines } = await told("CREATE TABLE t (id int PRIMARY KEY)", [
    `BEGIN; SAVEPOINT a; ALTER TABLE t ADD gone int; INSERT INTO t VALUES (1, 1); ROLLBACK TO a; INSERT INTO t VALUES (2);
     SAVEPOINT b; ALTER TABLE t ADD kept int; RELEASE b; INSERT INTO t VALUES (3, 3); COMMIT`,
    "BEGIN; ALTER TABLE t ADD never int; ROLLBACK",
  ]);
  expect(lines).toEqual(['t{"id":2}', "+t(id,kept)", 't{"id":3,"kept":3}']);
});

test("two tables swap their names in one transaction", async () => {
  const { l, lines } = await told("CREATE TABLE a (id int PRIMARY KEY, x int); CREATE TABLE b (id int PRIMARY KEY, x int)", [
    `BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (2, 2); ALTER TABLE a RENAME TO tmp; ALTER TABLE b RENAME TO a; ALTER TABLE tmp RENAME TO b;
     INSERT INTO a VALUES (3, 3); INSERT INTO b VALUES (4, 4); COMMIT`,
  ]);
  expect(lines.filter((line) => !line.startsWith("+"))).toEqual([
    'a{"id":1,"x":1}',
    'b{"id":2,"x":2}',
    'a{"id":3,"x":3}',
    'b{"id":4,"x":4}',
  ]);
  const [a1, b1, a2, b2] = l.events.map((event) => l.schemaOf(event).oid);
  expect([a2, b2]).toEqual([b1, a1]);
});

test("a table is dropped and made again under its name", async () => {
  const { l, lines } = await told("CREATE TABLE t (id int PRIMARY KEY)", [
    "BEGIN; INSERT INTO t VALUES (1); DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (2); COMMIT",
    "DROP TABLE t",
  ]);
  expect(lines).toEqual(['t{"id":1}', "-t", "+t(id)", 't{"id":2}', "-t"]);
  const [first, second] = l.events.map((event) => l.schemaOf(event).oid);
  expect(first).not.toBe(second);
});

test("keys, identities, nullability and types change in place", async () => {
  const { l } = await told("CREATE TABLE t (id int PRIMARY KEY, k int NOT NULL, n numeric(6,2) NOT NULL)", [
    `BEGIN; INSERT INTO t VALUES (1, 1, 1); ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (k); INSERT INTO t VALUES (2, 2, 2);
     ALTER TABLE t ALTER n DROP NOT NULL; ALTER TABLE t ALTER n TYPE text; INSERT INTO t VALUES (3, 3, 'x'); ALTER TABLE t REPLICA IDENTITY FULL;
     DELETE FROM t WHERE id = 3; COMMIT`,
    "CREATE UNIQUE INDEX u ON t (id); ALTER TABLE t ALTER id SET NOT NULL; ALTER TABLE t REPLICA IDENTITY USING INDEX u; DROP INDEX u",
  ]);
  const rows = l.events.filter(({ table }) => table.table === "t");
  expect(rows.map(({ key, before }) => [key, before])).toEqual([
    ['{"id":1}', null],
    ['{"k":2}', null],
    ['{"k":3}', null],
    ['{"k":3}', '{"id":3,"k":3,"n":"x"}'],
  ]);
  const said = l.said.flatMap((one) => (one.kind === "schema" && one.schema.table === "t" ? [one] : []));
  expect(
    said.map(({ schema, rewritten }) => [
      schema.key.join(),
      schema.identity,
      schema.columns[2]?.type,
      schema.columns[2]?.nullable,
      rewritten,
    ]),
  ).toEqual([
    ["id", "default", "numeric(6,2)", false, false],
    ["k", "default", "numeric(6,2)", false, false],
    ["k", "default", "numeric(6,2)", true, false],
    ["k", "default", "text", true, true],
    ["k", "full", "text", true, false],
    ["id", "index", "text", true, false],
    ["", "index", "text", true, false],
  ]);
});

test("rows that a command rewrote past the WAL are told of, widened columns are not", async () => {
  const { lines } = await told("CREATE TABLE t (id int PRIMARY KEY, v varchar(3)); INSERT INTO t VALUES (1)", [
    "ALTER TABLE t ALTER v TYPE varchar(30)",
    "ALTER TABLE t ADD r float8 DEFAULT random()",
    "ALTER TABLE t ADD s bigserial",
    "ALTER TABLE t ALTER id TYPE bigint",
    "ALTER TABLE t ALTER v TYPE varchar(30) USING upper(v)",
  ]);
  // The last one changes no more than the rows.
  expect(lines).toEqual(["+t(id,v)", "+t(id,v,r)!", "+t(id,v,r,s)!", "+t(id,v,r,s)!", "+t(id,v,r,s)!"]);
});

test("enum values, domains and their types reach the tables that use them", async () => {
  const { l, lines } = await told(
    "CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN m AS mood; CREATE TABLE t (id int PRIMARY KEY, v m, w mood[])",
    [
      "ALTER TYPE mood ADD VALUE 'b'",
      "INSERT INTO t VALUES (1, 'b', '{b}')",
      "ALTER TYPE mood RENAME TO feeling",
      "INSERT INTO t VALUES (2, 'b', '{a}')",
      "ALTER DOMAIN m SET NOT NULL",
      "INSERT INTO t VALUES (3, 'a', '{a}')",
      "DROP TYPE feeling CASCADE",
      "INSERT INTO t VALUES (4)",
    ],
  );
  expect(lines.filter((line) => !line.startsWith("+"))).toEqual([
    't{"id":1,"v":"b","w":"{b}"}',
    't{"id":2,"v":"b","w":"{a}"}',
    't{"id":3,"v":"a","w":"{a}"}',
    't{"id":4}',
  ]);
  const types = l.events.slice(0, 4).map((event) =>
    l
      .schemaOf(event)
      .columns.map(({ type, nullable }) => `${type}${nullable ? "" : "!"}`)
      .join(),
  );
  expect(types).toEqual([
    "integer!,public.mood,public.mood[]",
    "integer!,public.feeling,public.feeling[]",
    "integer!,public.feeling!,public.feeling[]",
    "integer!",
  ]);
});

test("partitions are attached, detached and dropped; those with rows are told to be copied", async () => {
  const { l, lines } = await told(
    `CREATE TABLE p (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
     CREATE TABLE own (k int NOT NULL, id int NOT NULL, PRIMARY KEY (id, k)); INSERT INTO own VALUES (2, 1)`,
    [
      "BEGIN; INSERT INTO p VALUES (2, 1); ALTER TABLE p ATTACH PARTITION own FOR VALUES IN (2); INSERT INTO p VALUES (3, 2); COMMIT",
      "BEGIN; ALTER TABLE p ADD n int; INSERT INTO p VALUES (4, 1, 4), (4, 2, 4); COMMIT",
      "CREATE TABLE p3 PARTITION OF p FOR VALUES IN (3); INSERT INTO p VALUES (5, 3, 5)",
      "BEGIN; ALTER TABLE p DETACH PARTITION own; INSERT INTO own VALUES (9, 6, 6); INSERT INTO p VALUES (6, 1, 6); COMMIT",
      "DROP TABLE p1",
    ],
  );
  expect(lines).toEqual([
    'p{"id":2,"k":1}',
    "+p(id,k)!",
    'p{"k":2,"id":3}',
    "+p(id,k,n)",
    'p{"id":4,"k":1,"n":4}',
    'p{"k":2,"id":4,"n":4}',
    'p{"id":5,"k":3,"n":5}',
    "+own(k,id,n)!",
    'own{"k":9,"id":6,"n":6}',
    'p{"id":6,"k":1,"n":6}',
  ]);
  const stay = l.warnings.flatMap((warning) => /^partition (.*): its rows stay in public.p/.exec(warning)?.[1] ?? []);
  expect(stay).toEqual(["public.own was detached", "public.p1 was dropped"]);
});

test("a schema is renamed, a table moves out of CDC_TABLES and in again", async () => {
  const { l, lines } = await told(
    "CREATE SCHEMA a; CREATE TABLE a.t (id int PRIMARY KEY)",
    [
      "BEGIN; INSERT INTO a.t VALUES (1); ALTER SCHEMA a RENAME TO aa; INSERT INTO aa.t VALUES (2); COMMIT",
      "CREATE SCHEMA b; ALTER TABLE aa.t SET SCHEMA b; INSERT INTO b.t VALUES (3)",
      "ALTER TABLE b.t SET SCHEMA aa; INSERT INTO aa.t VALUES (4)",
    ],
    { tables: "public.*,a*.*" },
  );
  expect(lines).toEqual(['t{"id":1}', "+t(id)", 't{"id":2}', "+t(id)!", 't{"id":4}']);
  expect(l.warnings.filter((warning) => warning.includes("not captured any more"))).toHaveLength(1);
});

test("a table that is made is announced before its rows, even by CREATE TABLE AS and SELECT INTO", async () => {
  const { lines } = await told("", [
    "CREATE TABLE t (id int PRIMARY KEY)",
    "BEGIN; CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1); COMMIT",
    "BEGIN; CREATE TABLE c AS SELECT 1 AS x; ALTER TABLE c REPLICA IDENTITY FULL; INSERT INTO c VALUES (2); COMMIT",
  ]);
  // The rows of CREATE TABLE AS come before anything tells of their table: it is met by its first row, as the catalog has it by then.
  const of = (table: string) => lines.filter((line) => line.replace("+", "").startsWith(table));
  expect(of("t")).toEqual(["+t(id)"]);
  expect(of("u")).toEqual(["+u(id,v)", 'u{"id":1,"v":1}']);
  expect(of("c")).toEqual(["+c(x)", 'c{"x":1}', "+c(x)", "+c(x)", 'c{"x":2}']);
});

test("rows of CREATE TABLE AS that cannot be read any more are told to be copied", async () => {
  const { lines } = await told("", [
    "BEGIN; CREATE TABLE c AS SELECT 1 AS x; ALTER TABLE c RENAME TO d; ALTER TABLE d REPLICA IDENTITY FULL; INSERT INTO d VALUES (2); COMMIT",
  ]);
  expect(lines.filter((line) => line.endsWith("!"))).toEqual(["+c(x)!"]);
  expect(lines.at(-1)).toBe('d{"x":2}');
});

test("children of inheritance change with their parent", async () => {
  const { lines } = await told("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (p)", [
    "BEGIN; INSERT INTO c VALUES (1); ALTER TABLE p ADD n int; INSERT INTO c VALUES (2, 2); COMMIT",
  ]);
  expect(lines.filter((line) => !line.startsWith("+p"))).toEqual(['c{"id":1}', "+c(id,n)", 'c{"id":2,"n":2}']);
});
