import { afterEach, describe, expect, test } from "bun:test";
import { testPostgres } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import type { OwnedEvent } from "@cascade/shared/change-event";
import type { CascadeError } from "@cascade/shared/errors";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { randomOf } from "@cascade/workload/random";
import pg from "pg";
import type { SourceMessage } from "../src/change-source.ts";
import { Catalog } from "../src/postgres/catalog.ts";
import { probePlugin } from "../src/postgres/plugin-options.ts";
import { missingReadRights } from "../src/postgres/read-rights.ts";
import { connect } from "../src/postgres/session.ts";
import { cleanUp, cleanups, codeOf, commits, eventsOf, type Lab, lab, type Mode, open, read } from "./source-lab.ts";

afterEach(cleanUp);

/** What wal2json before 2.6 writes as null is never delivered as NULL, on the real plugin. */

const server = await testPostgres();
await server.query("postgres", "SELECT 1");
const probe = await lab("");
const session = await connect(probe.url);
const { losesNumbers } = await probePlugin(session, probe.slot);
await session.end();
for (const cleanup of cleanups.splice(0).reverse()) await cleanup();

const after = (events: readonly OwnedEvent[]) => events.map((event) => JSON.parse(event.after ?? "null"));

/** Everything up to `count` commits, read at once after all of them. */
async function history(l: Lab, count: number, warnings: string[] = []): Promise<readonly OwnedEvent[]> {
  await using source = await open("stream", l, warnings);
  return eventsOf(await read(source, commits(count)));
}

/** Past everything that is written. */
const advance = (l: Lab) => l.sql(`SELECT pg_replication_slot_advance('${l.slot}', pg_current_wal_lsn())`);

/** Commits of other sessions wait, invisible but sent, until the function that it resolves with is called. */
async function withoutStandby(l: Lab): Promise<() => Promise<void>> {
  const standby = async (names: string): Promise<void> => {
    await l.sql(`ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await l.sql("SELECT pg_reload_conf()");
    const shown = async () => (await l.sql("SHOW synchronous_standby_names")).rows[0].synchronous_standby_names;
    await until(async () => (await shown()) === names, 5000);
  };
  cleanups.push(() => standby(""));
  await standby("nobody");
  return () => standby("");
}

/** Starts a statement on a session of its own, and does not wait for it. */
async function elsewhere(l: Lab, sql: string): Promise<{ readonly done: Promise<unknown> }> {
  const client = new pg.Client({ connectionString: l.url });
  await client.connect();
  cleanups.push(() => client.end());
  return { done: client.query(sql) };
}

describe.skipIf(!losesNumbers)("wal2json before 2.6", () => {
  test.each<Mode>(["stream", "poll"])("%s: every special number arrives as it is, and NULL as NULL", async (mode) => {
    const l = await lab(`
      CREATE SCHEMA "o ""dd";
      CREATE DOMAIN "o ""dd".dom AS double precision;
      CREATE TABLE public."T ""q'" ("k ' \\ 1" bytea, at timestamptz, "n ""x" numeric, r real NOT NULL, f float8, p numeric(10,2) NOT NULL,
        d "o ""dd".dom, t text, PRIMARY KEY (at, "k ' \\ 1"))`);
    const rows = ["NaN", "Infinity", "-Infinity", "1.50", null].map((value, at) => {
      const [some, sure] = [value === null ? "NULL" : `'${value}'`, value === null ? "0.1" : value];
      const p = value?.includes("Infinity") ? "NaN" : (value ?? "2");
      return `('\\x00ff0${at}', '2026-05-0${at + 1} 12:00+05', ${some}, '${sure}', ${some}, '${p}', ${some}, 'x')`;
    });
    await l.sql(`INSERT INTO "T ""q'" VALUES ${rows.join()}`);
    await l.sql(`UPDATE "T ""q'" SET t = 'y'`);
    await l.sql(`UPDATE "T ""q'" SET f = 'NaN', at = at + interval '1 day'`);
    const events = eventsOf(await read(await open(mode, l), commits(3)));
    const numbers = (row: Record<string, unknown>) => [row['n "x'], row["r"], row["f"], row["p"], row["d"]];
    const written = [
      ["NaN", "NaN", "NaN", "NaN", "NaN"],
      ["Infinity", "Infinity", "Infinity", "NaN", "Infinity"],
      ["-Infinity", "-Infinity", "-Infinity", "NaN", "-Infinity"],
      ["1.50", 1.5, 1.5, "1.50", 1.5],
      [null, 0.1, null, "2.00", null],
    ];
    // Before their last update the rows are looked up under keys that are gone: what was certain of them is left, a special number where
    // NULL cannot be.
    const gone = [
      [null, "Infinity", null, "NaN", "NaN"],
      [null, "Infinity", null, "NaN", "Infinity"],
      [null, "Infinity", null, "NaN", "-Infinity"],
      ["1.50", 1.5, 1.5, "1.50", 1.5],
      [null, 0.1, null, "2.00", null],
    ];
    const shown = after(events).map(numbers);
    expect(shown.slice(0, 10)).toEqual([...gone, ...gone]);
    expect(shown.slice(10)).toEqual(written.map(([n, r, _f, p, d]) => [n, r, "NaN", p, d]));
  });

  test("rows are found by keys of every kind, and in the root of their partitions", async () => {
    const keys: readonly (readonly [string, string])[] = [
      ["boolean", "true"],
      ["bigint", "9223372036854775807"],
      ["numeric", "10.50"],
      ["float8", "1e-05"],
      ["char(5)", "'ab'"],
      ["varchar(40)", "'a\"\\b'"],
      ["uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
      ["bytea", "'\\x00ff'"],
      ["int[]", "'{1,2}'"],
      ["jsonb", `'{"a": [1, "x"]}'`],
      ["mood", "'so ''so'"],
      ["positive", "5"],
      ["caseless", "'Ab'"],
      ["interval", "'1 mon -3 days'"],
      ["int4range", "'[1,5)'"],
      ["inet", "'10.0.0.1/8'"],
      ['"char"', "'x'"],
      ["name", "'n'"],
      ["money", "'1234.50'"],
      ["bit(3)", "'101'"],
      ["pair", "'(1,x)'"],
      ["bpchar", "'a  '"],
      ["sunny", "'well'"],
      ["numbers", "'[0:1]={1,2}'"],
      ["couple", "'(1,x)'"],
      ["short", "'ab'"],
    ];
    const l = await lab(`
      CREATE TYPE mood AS ENUM ('so ''so', 'well'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
      CREATE TYPE pair AS (a int, b text); CREATE EXTENSION citext; CREATE DOMAIN caseless AS citext;
      CREATE DOMAIN sunny AS mood; CREATE DOMAIN numbers AS int[]; CREATE DOMAIN couple AS pair; CREATE DOMAIN short AS char(4);
      ${keys.map(([type], at) => `CREATE TABLE t${at} (k ${type} PRIMARY KEY, f float8)`).join("; ")};
      CREATE TABLE cit (k citext PRIMARY KEY, f real);
      CREATE TABLE p (f numeric, a int, b int, PRIMARY KEY (b, a)) PARTITION BY LIST (a);
      CREATE TABLE p1 (b int NOT NULL, a int NOT NULL, f numeric);
      ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p DEFAULT`);
    for (const [at, [, literal]] of keys.entries()) await l.sql(`INSERT INTO t${at} VALUES (${literal}, '-Infinity')`);
    await l.sql("INSERT INTO cit VALUES ('Ab', 'NaN')");
    await l.sql("INSERT INTO p (a, b, f) VALUES (1, 7, 'NaN'), (2, 7, 'Infinity'), (3, 7, NULL)");
    const events = await history(l, keys.length + 2);
    expect(after(events).map(({ f }) => f)).toEqual([...keys.map(() => "-Infinity"), "NaN", "NaN", "Infinity", null]);
    expect(events.at(-1)?.table.table).toBe("p");
  });

  test("what a row has become since comes with the event that made it so", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, n numeric, s real NOT NULL)");
    await l.sql(
      "INSERT INTO t VALUES (1, 'NaN', 'NaN'), (2, 'NaN', 'NaN'), (3, NULL, 1), (4, 'NaN', 'NaN'), (5, 'NaN', 'NaN'), (6, 'NaN', 'NaN')",
    );
    await l.sql("UPDATE t SET n = 5, s = 5 WHERE id = 1");
    await l.sql("UPDATE t SET n = NULL, s = '-Infinity' WHERE id = 2");
    await l.sql("UPDATE t SET n = 'Infinity' WHERE id = 3");
    await l.sql("DELETE FROM t WHERE id = 4");
    await l.sql("UPDATE t SET id = 50 WHERE id = 5");
    const events = await history(l, 6);
    const shown = events.map(({ op, before, after: row }) => [
      op,
      JSON.parse(before ?? "null")?.id,
      ...Object.values(JSON.parse(row ?? "{}")),
    ]);
    expect(shown).toEqual([
      ["c", undefined, 1, null, 5],
      ["c", undefined, 2, null, "-Infinity"],
      ["c", undefined, 3, "Infinity", 1],
      ["c", undefined, 4, null, "Infinity"],
      ["c", undefined, 5, null, "Infinity"],
      ["c", undefined, 6, "NaN", "NaN"],
      ["u", 1, 1, "5", 5],
      ["u", 2, 2, null, "-Infinity"],
      ["u", 3, 3, "Infinity", 1],
      ["d", 4],
      ["u", 5, 50, "NaN", "NaN"],
    ]);
  });

  test("a renamed table and swapped columns are read as what they were; a dropped column is told of", async () => {
    const l = await lab(`
      CREATE TABLE t (id int PRIMARY KEY, a float8, b float8, c float8);
      CREATE TABLE other (id int PRIMARY KEY, a float8)`);
    const warnings: string[] = [];
    const source = await open("stream", l, warnings);
    const take = async (sql: string): Promise<unknown> => {
      const before = eventsOf(await read(source, (all) => eventsOf(all).length > 0));
      await l.sql(sql);
      return after(before);
    };
    await l.sql("INSERT INTO t VALUES (1, 'NaN', 'Infinity', 1)");
    expect(await take("SELECT 1")).toEqual([{ id: 1, a: "NaN", b: "Infinity", c: 1 }]);
    // Written, and the catalog changed, before cdc has read the row: its cached names are stale.
    await l.sql("BEGIN; INSERT INTO t VALUES (2, 'NaN', 'Infinity', NULL); COMMIT");
    await l.sql(
      "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b; ALTER TABLE t RENAME id TO key",
    );
    await l.sql("ALTER TABLE t RENAME TO former; ALTER TABLE other RENAME TO t");
    expect(await take("SELECT 1")).toEqual([{ id: 2, a: "NaN", b: "Infinity", c: null }]);
    expect(warnings).toEqual([]);
  });

  test("what went with its table is NULL, and said", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, a float8)");
    const warnings: string[] = [];
    const source = await open("stream", l, warnings);
    await l.sql("INSERT INTO t VALUES (1, 'NaN')");
    await read(source, (all) => eventsOf(all).length > 0);
    await l.sql("INSERT INTO t VALUES (2, 'NaN')");
    await l.sql("ALTER TABLE t DROP a");
    expect(after(eventsOf(await read(source, (all) => eventsOf(all).length > 0)))).toEqual([{ id: 2, a: null }]);
    expect(warnings).toEqual([expect.stringContaining("public.t was dropped, or columns of it")]);
  });

  test("an old row under REPLICA IDENTITY FULL says nothing of what it lost", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, n numeric, m int); ALTER TABLE t REPLICA IDENTITY FULL");
    await l.sql("INSERT INTO t VALUES (1, 'NaN', NULL)");
    await l.sql("UPDATE t SET n = 2");
    await l.sql("DELETE FROM t");
    const events = await history(l, 3);
    expect(events.map(({ before }) => before)).toEqual([null, '{"id":1,"m":null}', '{"id":1,"n":"2","m":null}']);
  });

  test("a table without a key: NULL goes on, NaN stops cdc before its row, and it goes on once that is mended", async () => {
    const l = await lab(`
      CREATE TABLE a (v int, n numeric); ALTER TABLE a REPLICA IDENTITY FULL; CREATE TABLE k (id int PRIMARY KEY, f real);
      CREATE TABLE p (v int, n numeric) PARTITION BY LIST (v); CREATE TABLE p1 PARTITION OF p DEFAULT; ALTER TABLE p1 REPLICA IDENTITY FULL;
      INSERT INTO a VALUES (0, 'NaN')`);
    await advance(l);
    await l.sql("INSERT INTO a VALUES (1, NULL), (2, 5)");
    await l.sql("UPDATE a SET v = 3 WHERE v = 1");
    await l.sql("INSERT INTO p VALUES (1, NULL)");
    expect(after(await history(l, 3))).toEqual([
      { v: 1, n: null },
      { v: 2, n: "5" },
      { v: 3, n: null },
      { v: 1, n: null },
    ]);
    await advance(l);
    await l.sql("INSERT INTO k VALUES (1, 'NaN')");
    await l.sql("BEGIN; SAVEPOINT s; INSERT INTO p VALUES (4, 'Infinity'); RELEASE s; INSERT INTO k VALUES (2, 'NaN'); COMMIT");
    const seen: OwnedEvent[] = [];
    const source = await open("stream", l);
    const failing = read(source, (all) => {
      seen.splice(0, seen.length, ...eventsOf(all));
      return false;
    });
    const error = (await failing.catch((thrown: unknown) => thrown)) as CascadeError;
    expect(error).toMatchObject({ code: "SPECIAL_NUMBER_LOST", verdict: "refuse", message: expect.stringContaining("public.p") });
    expect(error.advice).toContain("wal2json 2.6");
    expect(after(seen).at(-1)).toEqual({ id: 1, f: "NaN" });
    await source[Symbol.asyncDispose]();
    await l.sql("UPDATE p SET n = 6 WHERE v = 4");
    expect(after(await history(l, 3))).toEqual([
      { id: 1, f: "NaN" },
      { v: 4, n: null },
      { id: 2, f: "NaN" },
      { v: 4, n: "6" },
    ]);
  });

  test("a CHECK constraint or a partial index spares the search of a table without a key", async () => {
    const l = await lab(`
      CREATE TABLE a (n numeric CHECK (n > '-Infinity' AND n < 'Infinity'), f float8); ALTER TABLE a REPLICA IDENTITY FULL;
      CREATE INDEX ON a (f) WHERE f IN ('NaN', 'Infinity', '-Infinity');
      INSERT INTO a SELECT 1, 1 FROM generate_series(1, 1000); ANALYZE a`);
    await l.sql("INSERT INTO a VALUES (NULL, NULL)");
    await l.sql("SELECT pg_stat_reset()");
    expect(after(await history(l, 1)).at(-1)).toEqual({ n: null, f: null });
    const scans = async () => (await l.sql("SELECT seq_scan::int, idx_scan::int FROM pg_stat_user_tables")).rows[0];
    await until(async () => (await scans()).idx_scan > 0, 5000);
    expect(await scans()).toEqual({ seq_scan: 0, idx_scan: 1 });
  });

  test.each(["at once", "afterwards"])(
    "whatever is done to rows that are read %s, their last events say what main-db holds",
    async (when) => {
      const l = await lab(`
      CREATE TABLE t (id int, at int, n numeric, s float8 NOT NULL, pad text, PRIMARY KEY (id, at)) PARTITION BY LIST (at);
      CREATE TABLE t0 PARTITION OF t FOR VALUES IN (0); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
      ALTER TABLE t1 REPLICA IDENTITY FULL`);
      const seed = Math.floor(Math.random() * 1e9);
      const { between, pick, chance } = randomOf(seed);
      const number = () => pick(["'NaN'", "'Infinity'", "'-Infinity'", "1.5", "2"]);
      const statement = (empties: boolean): string => {
        const [id, at, n] = [between(0, 11), between(0, 1), pick(["NULL", number()])];
        if (empties && chance(0.02)) return "TRUNCATE t";
        return pick([
          `INSERT INTO t VALUES (${id}, ${at}, ${n}, ${number()}) ON CONFLICT (id, at) DO UPDATE SET n = excluded.n`,
          `UPDATE t SET n = ${n}, s = ${number()} WHERE id = ${id}`,
          `UPDATE t SET id = id + 100 WHERE id = ${id} AND NOT EXISTS (SELECT FROM t x WHERE x.id = ${id} + 100)`,
          `UPDATE t SET at = 1 - at WHERE id = ${id} AND (SELECT count(*) FROM t x WHERE x.id = ${id}) = 1`,
          `UPDATE t SET pad = 'x' WHERE at = ${at}`,
          `DELETE FROM t WHERE id % 100 = ${empties ? id : -1}`,
          "SAVEPOINT s; UPDATE t SET n = 7; ROLLBACK TO s",
        ]);
      };
      const source = await open("stream", l);
      const reading = () => read(source, (all) => eventsOf(all.slice(-50)).some(({ key }) => key?.includes("-1") === true));
      const early = when === "at once" ? reading() : null;
      for (let n = 0; n < 300; n++) {
        await l.sql(`BEGIN; ${Array.from({ length: pick([1, 2, 5]) }, () => statement(n < 200)).join("; ")}; COMMIT`);
      }
      await l.sql("INSERT INTO t VALUES (-1, 0, NULL, 0)");
      const rows = new Map<string, string>();
      const keyOf = ({ id, at }: Record<string, unknown>) => JSON.stringify([id, at]);
      for (const { op, before, after: now } of eventsOf(await (early ?? reading()))) {
        if (op === "t") rows.clear();
        if (before !== null) rows.delete(keyOf(JSON.parse(before)));
        const row = JSON.parse(now ?? "null");
        if (row !== null) rows.set(keyOf(row), JSON.stringify([row.id, row.at, row.n, String(row.s), row.pad]));
      }
      const there = await l.sql("SELECT json_build_array(id, at, n::text, s::text, pad)::text AS row FROM t");
      const sorted = (texts: readonly string[]) => texts.map((text) => JSON.stringify(JSON.parse(text))).sort();
      expect({ seed, rows: sorted([...rows.values()]) }).toEqual({ seed, rows: sorted(there.rows.map(({ row }) => row)) });
    },
  );

  test.each<Mode>(["stream", "poll"])(
    "%s: a transaction that waits for a standby is waited for, and told of once",
    async (mode) => {
      const l = await lab("CREATE TABLE t (id int PRIMARY KEY, n numeric, s real NOT NULL)");
      const warnings: string[] = [];
      const source = await open(mode, l, warnings);
      const standbyIsBack = await withoutStandby(l);
      let events: readonly OwnedEvent[] | null = null;
      const writing = await elsewhere(l, "INSERT INTO t VALUES (1, 'Infinity', '-Infinity')");
      const reading = read(source, (all) => eventsOf(all).length > 0).then((all) => {
        events = eventsOf(all);
      });
      expect(await until(() => Promise.resolve(warnings.length > 0), 10_000)).toBe(true);
      await Bun.sleep(600); // further looks are silent
      const looks = await l.sql("SELECT xact_commit::int AS n FROM pg_stat_database WHERE datname = current_database()");
      expect(looks.rows[0].n).toBeLessThan(200);
      expect([events, warnings]).toEqual([null, [expect.stringContaining("not visible on main-db yet")]]);
      await standbyIsBack();
      await writing.done;
      await reading;
      expect(after(events ?? [])).toEqual([{ id: 1, n: "Infinity", s: "-Infinity" }]);
    },
  );

  test("asked to stop while it waits, the source ends", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, n numeric)");
    const warnings: string[] = [];
    const source = await open("stream", l, warnings);
    const standbyIsBack = await withoutStandby(l);
    const writing = await elsewhere(l, "INSERT INTO t VALUES (1, 'NaN')");
    const stop = new AbortController();
    const ending = (async () => {
      const seen: SourceMessage[] = [];
      for await (const messages of source.messages(stop.signal)) seen.push(...messages);
      return eventsOf(seen);
    })();
    await until(() => Promise.resolve(warnings.length > 0), 10_000);
    stop.abort();
    expect(await ending).toEqual([]);
    await standbyIsBack();
    await writing.done;
  });

  test("a session that is cut heals with the next life", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, n numeric)");
    const source = await open("stream", l);
    await l.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cascade-cdc %' AND backend_type = 'client backend' AND datname = current_database()",
    );
    await l.sql("INSERT INTO t VALUES (1, NULL)");
    expect(await codeOf(read(source, () => false))).toBe("MAIN_DB_AWAY");
  });

  test("a role that may not read such a table is told of beforehand, with the cure, and while cdc runs", async () => {
    const l = await lab(`
      CREATE ROLE numbers_role LOGIN REPLICATION PASSWORD 'x';
      CREATE TABLE t (id int PRIMARY KEY, n numeric); CREATE TABLE plain (id int PRIMARY KEY);
      CREATE DOMAIN dom AS float8; CREATE TABLE d (id int PRIMARY KEY, f dom);
      CREATE TABLE rls (id int PRIMARY KEY, n real); ALTER TABLE rls ENABLE ROW LEVEL SECURITY; GRANT SELECT ON rls TO numbers_role`);
    cleanups.unshift(async () => {
      const server = await testPostgres();
      await server.query("postgres", "DROP ROLE numbers_role");
    });
    const url = Object.assign(new URL(l.url), { username: "numbers_role", password: "x" }).href;
    const session = await connect(url);
    cleanups.push(() => session.end());
    const catalog = new Catalog(session, parseTableFilter("public.*"), "cascade");
    const findings = await missingReadRights(session, await catalog.captured());
    expect(findings.map(({ message }) => /of (public\.\S+):/.exec(message)?.[1])).toEqual(["public.t", "public.rls"]);
    expect(findings[0]?.advice).toContain('GRANT SELECT ON "public"."t" TO <user>');
    await l.sql("INSERT INTO plain VALUES (1)");
    await l.sql("INSERT INTO rls VALUES (1, NULL)");
    const source = await open("stream", { ...l, url });
    expect(await codeOf(read(source, () => false))).toBe("MISSING_RIGHT");
    await source[Symbol.asyncDispose]();
    await l.sql("GRANT SELECT ON t TO numbers_role; ALTER ROLE numbers_role BYPASSRLS");
    expect(await missingReadRights(session, await catalog.captured())).toEqual([]);
    expect(eventsOf(await read(await open("stream", { ...l, url }), commits(2)))).toHaveLength(2);
  });
});
