import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CascadeError, UnsupportedValueError } from "@cascade/shared/errors";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { openDuckdbReplica } from "../src/replicas/duckdb.ts";
import { applier, event, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** What is DuckDB's alone: its failures, and tables that are there before the router. */

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
async function openLab(setup = "SELECT 1"): Promise<ReplicaLab> {
  const lab = await replicaLab("duckdb");
  cleanups.push(() => lab.close());
  await lab.sql(setup);
  return lab;
}
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "cascade-duckdb-"));
  cleanups.push(() => rmSync(made, { recursive: true, force: true }));
  return made;
}
async function failure(act: Promise<unknown>): Promise<CascadeError> {
  const error = await act.then(
    () => new Error("nothing was refused"),
    (thrown: unknown) => thrown,
  );
  if (error instanceof CascadeError) return error;
  throw error;
}
const problemsOf = ({ message }: CascadeError) => message.replace(/^.*? does not fit [^:]*: /, "").split("; ");
const curesOf = ({ advice }: CascadeError) => advice.replace(/^.*?the table goes on by itself: /, "").split("; ");

const items = tableSchema("items", { id: "integer", v: "text" });
const insert = (id: number) => event("c", null, { id, v: "v" });

describe("the file", () => {
  test("that another process has is worth a retry, and free once that has ended", async () => {
    const path = join(folder(), "r.duckdb");
    const client = import.meta.resolve("@duckdb/node-api");
    const script = `import { DuckDBInstance } from ${JSON.stringify(client)}; const db = await DuckDBInstance.create(${JSON.stringify(path)});
      console.log("opened"); for await (const line of console) process.exit(0);`;
    const holder = Bun.spawn([process.execPath, "-e", script], { stdin: "pipe", stdout: "pipe" });
    cleanups.push(() => holder.kill());
    expect(new TextDecoder().decode((await holder.stdout.getReader().read()).value)).toContain("opened");
    expect(await failure(openDuckdbReplica(path))).toMatchObject({ code: "REPLICA_LOCKED", verdict: "retry" });
    holder.stdin.write("go\n");
    holder.stdin.end();
    await holder.exited;
    const replica = await openDuckdbReplica(path);
    await (await applier(replica, items)).apply([insert(1)]);
    await replica[Symbol.asyncDispose]();
    // Whoever copies the file has everything.
    expect(readdirSync(join(path, ".."))).toEqual(["r.duckdb"]);
  });

  test("whose process was killed has what was committed", async () => {
    const path = join(folder(), "r.duckdb");
    const here = (file: string) => JSON.stringify(join(import.meta.dir, file));
    const script = `import { openDuckdbReplica } from ${here("../src/replicas/duckdb.ts")}; import { applier, event } from ${here("replica-labs.ts")};
      const router = await applier(await openDuckdbReplica(${JSON.stringify(path)}), ${JSON.stringify(items)});
      await router.apply([event("c", null, { id: 1, v: "v" })]); process.kill(process.pid, "SIGKILL");`;
    await Bun.spawn([process.execPath, "-e", script]).exited;
    const replica = await openDuckdbReplica(path);
    cleanups.push(() => replica[Symbol.asyncDispose]());
    expect((await applier(replica, items)).progress).toMatchObject({ nextOffset: 10n });
  });

  test("that was moved away while it is open is worth a retry: what is written to it nobody sees", async () => {
    const path = join(folder(), "r.duckdb");
    const replica = await openDuckdbReplica(path);
    cleanups.push(() => replica[Symbol.asyncDispose]());
    await replica.check();
    renameSync(path, `${path}.old`);
    expect(await failure(replica.check())).toMatchObject({ code: "REPLICA_UNAVAILABLE", verdict: "retry" });
  });

  test("that cannot be made, and one that is no database, refuse to start and are left alone", async () => {
    const inside = folder();
    const text = join(inside, "notes.duckdb");
    const words = "these are no rows, and DuckDB must not write over them\n".repeat(400);
    writeFileSync(text, words);
    mkdirSync(join(inside, "taken.duckdb"));
    for (const path of [join(inside, "missing", "a.db"), join(inside, "taken.duckdb"), text, "/proc/replica.duckdb"]) {
      const error = await failure(openDuckdbReplica(path));
      expect(error).toMatchObject({ code: "REPLICA_CANNOT_OPEN", verdict: "refuse" });
      expect(error.message).toContain(path);
    }
    expect(await Bun.file(text).text()).toBe(words);
    expect(existsSync(join(inside, "missing"))).toBe(false);
  });

  test("may have the name of a schema, which is then told from the database", async () => {
    const path = join(folder(), "shop.duckdb");
    const replica = await openDuckdbReplica(path);
    cleanups.push(() => replica[Symbol.asyncDispose]());
    for (const schema of ["shop", "temp", "Main"]) {
      const router = await applier(replica, tableSchema("t", { id: "integer", v: "text" }, { schema }));
      await router.apply([insert(1), event("u", { id: 1 }, { id: 1, v: "w" })]);
      await router.apply([event("u", { id: 1 }, { id: 2 }), event("d", { id: 2 }, null)]);
      await replica.prepare(router.table.source, false);
    }
  });
});

test("hundreds of tables, of which each has blocks that stay in memory, fit", async () => {
  const replica = await (await openLab()).open();
  for (let at = 0; at < 400; at++) {
    const wide = tableSchema(`t${at}`, { id: "bigint", a: "text", b: "double precision" });
    await (await applier(replica, wide)).apply([event("c", null, { id: "1", a: "a", b: 1 })]);
  }
}, 60_000);

test("applying leaves the event loop free", async () => {
  const replica = await (await openLab()).open();
  const router = await applier(replica, items);
  const events = Array.from({ length: 20_000 }, (_, id) => event("c", null, { id, v: "x".repeat(200) }));
  let [longestMs, last] = [0, performance.now()];
  const timer = setInterval(() => {
    longestMs = Math.max(longestMs, performance.now() - last);
    last = performance.now();
  }, 1);
  const work = {
    statements: replica.dialect.render(
      router.table,
      events.map(({ after }) => ({ kind: "put", row: after ?? {} })),
    ),
    inOrder: () => [],
  };
  last = performance.now();
  await router.applyWork(work);
  clearInterval(timer);
  // A batch of 5 MB takes some 200 ms in DuckDB.
  expect(longestMs).toBeLessThan(150);
});

test("foreign keys, which it cannot switch off, are findings, and what they refuse stops the table without its values", async () => {
  const lab = await openLab(
    "CREATE TABLE parents (id integer PRIMARY KEY); CREATE TABLE items (id integer PRIMARY KEY, v varchar, p integer DEFAULT 4711 REFERENCES parents (id))",
  );
  const replica = await lab.open();
  expect(replica.findings()).toEqual([
    expect.stringContaining("REFERENCES public.parents(id) of the replica's table public.items"),
  ]);
  const error = await failure((await applier(replica, items)).apply([insert(1)]));
  expect(error).toMatchObject({ code: "CONSTRAINT_VIOLATED", verdict: "stop-table" });
  expect(error.message).toContain("foreign key");
  expect(error.message).not.toContain("4711");
});

describe("values that a column cannot hold", () => {
  const source = tableSchema("t", { id: "integer", n: "numeric(6,2)", at: "timestamp with time zone" });
  const whole = { id: 1, n: "19.90", at: "2026-01-02 03:04:05.678901+00" };

  test("stop the table with the cure, which the router then takes", async () => {
    const lab = await openLab();
    const replica = await lab.open();
    const router = await applier(replica, source);
    await router.apply([event("c", null, whole)]);
    const late = { ...whole, at: "294276-12-31 00:00:00+00" };
    for (const bad of [{ ...whole, n: "NaN" }, late]) {
      const error = await failure(router.apply([event("c", null, { ...bad, id: 2 })]));
      expect(error).toBeInstanceOf(UnsupportedValueError);
      expect(error).toMatchObject({ code: "UNSUPPORTED_VALUE", verdict: "stop-table" });
      expect(error.message).toMatch(/column (?:n|at) of table public\.t/);
      expect(error.message + error.advice).not.toContain("294276");
      await lab.sql(/ALTER TABLE .* TYPE VARCHAR/.exec(error.advice)?.[0] ?? "");
    }
    const again = await applier(replica, source);
    await again.apply([event("c", null, { ...late, id: 2, n: "NaN" })]);
    expect(comparableRows(await lab.rows(source))).toEqual(comparableRows([whole, { ...late, id: 2, n: "NaN" }]));
  });

  test("of the wrong form stop the table instead of becoming NULL, and are not shown", async () => {
    const lab = await openLab();
    const odd = tableSchema("odd", { id: "integer", n: "bigint", b: "bytea", d: "date" });
    const { apply } = await applier(await lab.open(), odd);
    for (const bad of [{ n: "9223372036854775808" }, { n: "12x" }, { n: "" }, { b: "a" }, { b: "??==" }, { d: "secret" }]) {
      const error = await failure(apply([event("c", null, { id: 1, n: null, b: null, d: null, ...bad })]));
      expect(error).toMatchObject({ code: "UNSUPPORTED_VALUE", verdict: "stop-table" });
      for (const value of Object.values(bad)) expect(value.length < 3 || !error.message.includes(value)).toBe(true);
    }
    expect(await lab.rows(odd)).toEqual([]);
  });
});

describe("a table that is there before the router", () => {
  test("is refused with everything that is wrong, and the cures mend it", async () => {
    const lab = await openLab(
      "CREATE TABLE t (id integer, n smallint, b varchar, g integer GENERATED ALWAYS AS (id + 1), r varchar NOT NULL, own integer NOT NULL)",
    );
    const source = tableSchema("t", { id: "integer", n: "integer", b: "bytea", g: "integer", r: "text", d: "text" });
    const columns = source.columns.map((column) => (column.name === "d" ? { ...column, default: "'it''s'::text" } : column));
    const replica = await lab.open();
    const error = await failure(replica.prepare({ ...source, columns }));
    expect(error).toMatchObject({ code: "REPLICA_TABLE_MISMATCH", verdict: "stop-table" });
    expect(problemsOf(error)).toEqual([
      'column "n" is SMALLINT, which does not hold every integer exactly',
      'column "b" is VARCHAR, which does not hold every bytea exactly',
      'column "g" is generated, and takes no value',
      'column "r" is NOT NULL',
      'column "d" is missing',
      'its own column "own" is NOT NULL without a default',
      'no unique index on exactly the key ("id")',
    ]);
    expect(curesOf(error)[4]).toStartWith(`ALTER TABLE "public"."t" ADD COLUMN "d" VARCHAR DEFAULT 'it''s'`);
    for (const cure of curesOf(error)) {
      if (cure.startsWith("make ")) await lab.sql('ALTER TABLE t DROP COLUMN "g"; ALTER TABLE t ADD COLUMN g INTEGER');
      else await lab.sql(cure.replace(/, or .*/, ""));
    }
    const { apply } = await applier(replica, { ...source, columns });
    await apply([event("c", null, { id: 1, n: 70_000, b: "AP8=", g: 7, r: null, d: null })]);
    expect(await lab.sql("SELECT n, hex(b) AS b, g FROM t")).toEqual([{ n: 70_000, b: "00FF", g: 7 }]);
  });

  test("with a collation that takes different keys for one is refused, elsewhere it is the user's own", async () => {
    const lab = await openLab("CREATE TABLE t (id varchar COLLATE nocase PRIMARY KEY, v varchar COLLATE nocase)");
    const replica = await lab.open();
    const error = await failure(replica.prepare(tableSchema("t", { id: "text", v: "text" })));
    expect(problemsOf(error)).toEqual([
      'rows are found by the key, and column "id" has a collation that takes different values for one',
    ]);
  });

  test("without a key must leave the row number to be seen", async () => {
    const lab = await openLab("CREATE TABLE log (v varchar, rowid integer)");
    const replica = await lab.open();
    expect(problemsOf(await failure(replica.prepare(tableSchema("log", { v: "text" }, { key: [] }))))).toEqual([
      `its own column "rowid" hides DuckDB's row number`,
    ]);
    const hiding = tableSchema("own", { ROWID: "text" }, { key: [] });
    expect(await failure(replica.prepare(hiding))).toMatchObject({ code: "UNSUPPORTED_TABLE", verdict: "stop-table" });
  });
});

test("names that DuckDB takes for one are refused, and those of the router's own tables", async () => {
  const replica = await (await openLab()).open();
  const named = (schema: string, table: string) => tableSchema(table, { id: "integer" }, { schema });
  for (const [first, second] of [
    [named("public", "Cases"), named("public", "cases")],
    [named("Sales", "t"), named("sales", "T")],
  ] as const) {
    await replica.prepare(first);
    const error = await failure(replica.prepare(second));
    expect(error).toMatchObject({ code: "REPLICA_NAME_TAKEN", verdict: "stop-table" });
    expect(error.message).toContain(`the name of ${first.schema}.${first.table}`);
    await replica.prepare(first);
  }
  // Beyond ASCII it keeps case apart.
  await replica.prepare(named("public", "é"));
  await replica.prepare(named("public", "É"));
  for (const name of ["cascade_progress", "CASCADE_tables", "cascade_replica"]) {
    expect((await failure(replica.prepare(named("main", name)))).code).toBe("REPLICA_NAME_TAKEN");
    await replica.prepare(named("public", name));
  }
  const twins = tableSchema("twins", { id: "integer", Id: "integer" });
  expect(await failure(replica.prepare(twins))).toMatchObject({ code: "UNSUPPORTED_TABLE" });
});
