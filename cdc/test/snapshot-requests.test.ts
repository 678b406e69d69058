import { afterEach, expect, test } from "bun:test";
import { keylessReplicaOf, replicaOf } from "./replica-of.ts";
import { isDone, Life, MemoryLog } from "./snapshot-lab.ts";
import { cleanUp, type Lab, lab } from "./source-lab.ts";
import { startChanges } from "./table-changes.ts";

afterEach(cleanUp);

/** Copies of tables without a key, and copies that are asked for. */

const past = ({ sql, slot }: Lab) => sql(`SELECT pg_replication_slot_advance('${slot}', pg_current_wal_lsn())`);

const KEYLESS = "CREATE TABLE k (n int, v text); ALTER TABLE k REPLICA IDENTITY FULL";
const KEYLESS_CHANGES = [
  "INSERT INTO k VALUES (1, 'same'), (1, 'same')",
  "UPDATE k SET v = v || '+' WHERE n = (random() * 500)::int",
  "DELETE FROM k WHERE ctid = (SELECT ctid FROM k ORDER BY random() LIMIT 1)",
  "INSERT INTO k VALUES ((random() * 500)::int, 'new')",
];
const keylessRows = async ({ sql }: Lab): Promise<readonly string[]> =>
  (await sql("SELECT n, v FROM k")).rows.map(({ n, v }) => JSON.stringify({ n, v })).sort();

test("a table without a key is copied in one piece, changes beside it, and again from the start after a crash", async () => {
  const l = await lab(KEYLESS);
  await l.sql("INSERT INTO k SELECT n % 500, repeat('x', 1000) FROM generate_series(1, 4000) AS n");
  await past(l);
  const log = new MemoryLog();
  const stop = await startChanges(l.url, KEYLESS_CHANGES);
  const first = await Life.start(l, { log });
  await first.until(({ events }) => events.some(({ op }) => op === "r"));
  await first.stop();
  const second = await Life.start(l, { log });
  await second.until(isDone(log, "initial"));
  await Bun.sleep(100);
  expect(await stop()).toBeGreaterThan(10);
  await l.sql("INSERT INTO k VALUES (-1, 'the end')");
  await second.until(({ events }) => events.some(({ after }) => after === '{"n":-1,"v":"the end"}'));
  const events = [...first.events, ...second.events];
  expect(keylessReplicaOf(events)).toEqual(await keylessRows(l));
  expect(events.filter(({ op }) => op === "t").length).toBeGreaterThanOrEqual(1);
});

test("a copy for one replica empties and fills that one alone; the others get every change and no row twice", async () => {
  const l = await lab(
    `${KEYLESS}; CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL`,
  );
  await l.sql("INSERT INTO k SELECT n % 500, repeat('x', 1000) FROM generate_series(1, 3000) AS n");
  await l.sql("INSERT INTO t SELECT n, 0, repeat('x', 3000) FROM generate_series(1, 2000) AS n");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log });
  await life.until(isDone(log, "initial", 2));
  const stop = await startChanges(l.url, [
    ...KEYLESS_CHANGES,
    "UPDATE t SET n = n + 1 WHERE id = (random() * 2000)::int",
    "UPDATE t SET id = id + 5000 WHERE id = (SELECT id FROM t WHERE id < 2000 ORDER BY random() LIMIT 1)",
  ]);
  const began = life.events.length;
  log.send("mine", JSON.stringify({ type: "snapshot", tables: ["public.*"], replica: "new" }));
  await life.until(isDone(log, "mine", 2));
  await Bun.sleep(100);
  await stop();
  await l.sql("INSERT INTO k VALUES (-1, 'the end'); INSERT INTO t VALUES (-1, 0, '')");
  await life.until(({ events }) => events.some(({ key }) => key === '{"id":-1}'));
  const of = (name: string) => life.events.filter(({ table }) => table.table === name);
  const rows = (await l.sql("SELECT id, n, big FROM t")).rows;
  const expected = rows.map(({ id, n, big }) => [`{"id":${id}}`, JSON.stringify({ id, n, big })]).sort();
  for (const replica of ["new", "other"]) {
    expect([...replicaOf(of("t"), ["id"], replica)].sort() as unknown).toEqual(expected);
    expect(keylessReplicaOf(of("k"), replica)).toEqual(await keylessRows(l));
  }
  // The new replica joined late: what came before its truncate is nothing to it.
  const late = life.events.slice(began);
  const fromTruncate = (name: string) => {
    const events = late.filter(({ table }) => table.table === name);
    return events.slice(events.findIndex(({ op }) => op === "t"));
  };
  expect([...replicaOf(fromTruncate("t"), ["id"], "new")].sort() as unknown).toEqual(expected);
  expect(keylessReplicaOf(fromTruncate("k"), "new")).toEqual(await keylessRows(l));
  const truncates = life.events.slice(began).filter(({ op }) => op === "t");
  expect(truncates.map(({ table }) => [table.replica, table.snapshotId])).toEqual([
    ["new", "mine"],
    ["new", "mine"],
  ]);
});

test("a range and a condition are kept to; a request is answered once, whatever restarts", async () => {
  const l = await lab("CREATE TABLE t (a int, b text, n int, PRIMARY KEY (a, b))");
  await l.sql("INSERT INTO t SELECT n / 10, n::text, n FROM generate_series(1, 100) AS n");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, initial: false });
  log.send(
    "part",
    JSON.stringify({ type: "snapshot", tables: ["public.t"], from: { a: 2 }, to: { a: 4, b: "45" }, where: "n % 2 = 0 -- even" }),
  );
  await life.until(isDone(log, "part"));
  const copied = life.events.map(({ after }) => (JSON.parse(after ?? "") as { n: number }).n);
  expect(copied.sort((x, y) => x - y)).toEqual([20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44]);
  await life.stop();
  const again = await Life.start(l, { log, initial: false });
  log.send("next", JSON.stringify({ type: "snapshot", tables: ["public.t"], where: "n = 7" }));
  await again.until(isDone(log, "next"));
  expect(again.events).toHaveLength(1);
});

test.each([
  ["not JSON", "{"],
  ["no tables", JSON.stringify({ type: "snapshot", tables: [] })],
  ["an unknown field", JSON.stringify({ type: "snapshot", tables: ["public.t"], filter: "x" })],
  ["a pattern that is none", JSON.stringify({ type: "snapshot", tables: ["t"] })],
  ["a table that is not there", JSON.stringify({ type: "snapshot", tables: ["public.nothing"] })],
  ["a range over no key", JSON.stringify({ type: "snapshot", tables: ["public.t"], from: { n: 1 } })],
  ["a range of a table without a key", JSON.stringify({ type: "snapshot", tables: ["public.k"], where: "true" })],
  ["SQL that is wrong", JSON.stringify({ type: "snapshot", tables: ["public.t"], where: "no_such_column > 1" })],
  ["SQL that fails", JSON.stringify({ type: "snapshot", tables: ["public.t"], where: "1 / (n - n) = 1" })],
  ["SQL that writes", JSON.stringify({ type: "snapshot", tables: ["public.t"], where: "nextval('public.s') > 0" })],
])("a request that cannot be met is answered with why, and nothing stops: %s", async (_, request) => {
  const l = await lab(`${KEYLESS}; CREATE TABLE t (id int PRIMARY KEY, n int); CREATE SEQUENCE s`);
  await l.sql("INSERT INTO t VALUES (1, 12345)");
  const log = new MemoryLog();
  const life = await Life.start(l, { log, initial: false });
  log.send("bad", request);
  await life.until(isDone(log, "bad"));
  const [state] = log.states();
  expect(state?.status).toBe("failed");
  expect(state?.error?.message).not.toContain("12345");
  log.send("good", JSON.stringify({ type: "snapshot", tables: ["public.t"] }));
  await life.until(isDone(log, "good"));
  expect(life.events.filter(({ op }) => op === "r")).toHaveLength(1);
});

test.each([
  ["with keys", "int PRIMARY KEY"],
  ["without keys", "int"],
])("a copy for one replica empties its own table, whatever has taken its name while it waited: tables %s", async (_, id) => {
  const l = await lab(["a", "b", "c"].map((name) => `CREATE TABLE ${name} (id ${id})`).join(";"));
  await l.sql("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); INSERT INTO c VALUES (3)");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, initial: false });
  // The copy of the first one waits for its lock, and the second one for the first.
  await l.sql("BEGIN; LOCK TABLE a");
  const value = JSON.stringify({ type: "snapshot", tables: ["public.a", "public.b"], replica: "r" });
  log.send("mine", value);
  while (log.states().length < 2) await Bun.sleep(5);
  await Bun.sleep(300);
  await l.sql("ALTER TABLE b RENAME TO was; ALTER TABLE c RENAME TO b; ALTER TABLE was RENAME TO c; COMMIT");
  await life.until(isDone(log, "mine", 2));
  expect(log.states().map(({ status }) => status)).toEqual(["done", "done"]);
  const told = life.events.filter(({ table }) => table.replica === "r").map(({ op, table, after }) => [table.table, op, after]);
  const of = (name: string) => told.filter(([table]) => table === name);
  expect(of("a")).toEqual([
    ["a", "t", null],
    ["a", "r", '{"id":1}'],
  ]);
  expect(of("c")).toEqual([
    ["c", "t", null],
    ["c", "r", '{"id":2}'],
  ]);
  expect(told).toHaveLength(4);
});

test("a request that names an OID is for that table, whatever it is called by now", async () => {
  const l = await lab("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
  await l.sql("INSERT INTO a VALUES (1); INSERT INTO b VALUES (2)");
  const oid = Number((await l.sql("SELECT 'a'::regclass::oid AS oid")).rows[0].oid);
  await l.sql("ALTER TABLE a RENAME TO was; ALTER TABLE b RENAME TO a");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, initial: false });
  log.send("mine", JSON.stringify({ type: "snapshot", tables: ["public.a"], oid, replica: "r" }));
  await life.until(isDone(log, "mine"));
  expect(log.states()).toMatchObject([{ oid, table: "was", status: "done" }]);
  expect(life.events.map(({ op, after }) => [op, after])).toEqual([
    ["t", null],
    ["r", '{"id":1}'],
  ]);
});

test("a copy of a whole table for one replica, which waits for it, is tried again when main-db refuses it", async () => {
  const role = `asked_${process.pid}`;
  const l = await lab(`${KEYLESS}; CREATE TABLE t (id int PRIMARY KEY)`);
  await l.sql("INSERT INTO t VALUES (1); INSERT INTO k VALUES (1, '')");
  await past(l);
  await l.sql(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'p'`);
  const log = new MemoryLog();
  const url = new URL(l.url);
  Object.assign(url, { username: role, password: "p" });
  const life = await Life.start({ ...l, url: url.toString() }, { log, initial: false });
  log.send("mine", JSON.stringify({ type: "snapshot", tables: ["public.*"], replica: "r" }));
  await life.until(() => log.states().filter(({ error }) => error?.code === "MISSING_RIGHT").length === 2);
  await l.sql(`INSERT INTO t VALUES (2); GRANT SELECT ON t, k TO ${role}; INSERT INTO k VALUES (2, '')`);
  await life.until(isDone(log, "mine", 2));
  expect(log.states().map(({ status, error }) => [status, error])).toEqual([
    ["done", null],
    ["done", null],
  ]);
  const of = (name: string) => life.events.filter(({ table }) => table.table === name);
  expect([...replicaOf(of("t"), ["id"], "r").keys()]).toEqual(['{"id":1}', '{"id":2}']);
  expect(keylessReplicaOf(of("k"), "r")).toEqual(['{"n":1,"v":""}', '{"n":2,"v":""}']);
  await life.stop();
  await l.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});
