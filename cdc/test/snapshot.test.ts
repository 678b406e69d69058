import { afterEach, describe, expect, test } from "bun:test";
import { keylessReplicaOf, replicaOf } from "./replica-of.ts";
import { isDone, Life, MemoryLog } from "./snapshot-lab.ts";
import { cleanUp, type Lab, lab, type Mode } from "./source-lab.ts";
import { startChanges } from "./table-changes.ts";

afterEach(cleanUp);

/** Copies of tables on a real server, under load, killed and resumed. */

/** Three columns, of which one is stored out of line: an update that leaves it alone is partial. */
const TABLE = "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL";

async function rowsOf({ sql }: Lab): Promise<ReadonlyMap<string, string>> {
  const { rows } = await sql("SELECT id, n, big FROM t");
  return new Map(rows.map(({ id, n, big }) => [`{"id":${id}}`, JSON.stringify({ id, n, big })]));
}

const sorted = (rows: ReadonlyMap<string, string>) => [...rows].sort(([a], [b]) => (a < b ? -1 : 1));

const ANY = "(random() * 3000)::int";
const LOAD = [
  `UPDATE t SET n = n + 1 WHERE id = ${ANY}`,
  `UPDATE t SET n = n + 1, id = id + 5000 WHERE id = (SELECT id FROM t WHERE id < 3000 ORDER BY random() LIMIT 1)`,
  `UPDATE t SET id = id - 5000 WHERE id = (SELECT id FROM t WHERE id >= 5000 ORDER BY random() LIMIT 1)`,
  `DELETE FROM t WHERE id = ${ANY}`,
  `INSERT INTO t VALUES (${ANY}, 0, repeat('n', 3000))`,
  `UPDATE t SET n = n + 1 WHERE id BETWEEN 1000 AND 1200`,
  `UPDATE t SET big = repeat('u', 3000) WHERE id = ${ANY}`,
];

describe.each<Mode>(["stream", "poll"])("%s source", (mode) => {
  test("a table is copied while it changes, and ends equal; killed between chunks it goes on where it was", async () => {
    const l = await lab(TABLE);
    await l.sql("INSERT INTO t SELECT n, 0, repeat('x', 3000) FROM generate_series(1, 3000) AS n");
    // What came before the slot does not come by the stream.
    await l.sql(`SELECT pg_replication_slot_advance('${l.slot}', pg_current_wal_lsn())`);
    const log = new MemoryLog();
    const stop = await startChanges(l.url, LOAD, mode === "poll" ? 20 : 2);
    const first = await Life.start(l, { mode, log });
    await first.until(() => (log.states()[0]?.rows ?? 0) >= 700);
    await first.stop();
    const before = log.states()[0]?.rows ?? 0;
    expect(before).toBeLessThan(3000);
    const second = await Life.start(l, { mode, log });
    await second.until(isDone(log, "initial"));
    expect(await stop()).toBeGreaterThan(10);
    await l.sql("INSERT INTO t VALUES (-1, 0, 'the end')");
    await second.until(({ events }) => events.some(({ key }) => key === '{"id":-1}'));
    const events = [...first.events, ...second.events];
    expect(sorted(replicaOf(events, ["id"]))).toEqual(sorted(await rowsOf(l)));
    const copied = second.events.filter(({ op }) => op === "r").length;
    expect(copied).toBeLessThan(3000 - before + 500);
  });
});

const past = ({ sql, slot }: Lab) => sql(`SELECT pg_replication_slot_advance('${slot}', pg_current_wal_lsn())`);

test("a partition tree is copied by its root, children by inheritance as tables of their own", async () => {
  const l = await lab(`
    CREATE TABLE p (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE p_old (v text, at date NOT NULL, id int NOT NULL, PRIMARY KEY (id, at));
    ALTER TABLE p ATTACH PARTITION p_old FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE p_new PARTITION OF p FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)`);
  await l.sql("INSERT INTO p SELECT n, '2026-06-01'::date + n, 'x' FROM generate_series(1, 400) AS n");
  await l.sql("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, chunkRows: 30 });
  await life.until(isDone(log, "initial", 3));
  const of = (name: string) => life.events.filter(({ table }) => table.table === name);
  expect(of("p")).toHaveLength(400);
  expect(of("p")[0]?.after).toBe('{"id":1,"at":"2026-06-02","v":"x"}');
  expect([of("parent").map(({ key }) => key), of("child").map(({ key }) => key)]).toEqual([['{"id":1}'], ['{"id":2}']]);
});

test("rows of any width are read without ever holding many of them", async () => {
  const l = await lab(TABLE);
  await l.sql(
    "INSERT INTO t SELECT n, n, repeat('x', CASE WHEN n > 2000 THEN 3000000 ELSE 10 END) FROM generate_series(1, 2020) AS n",
  );
  await past(l);
  const log = new MemoryLog();
  const largest = { chars: 0 };
  const life = await Life.start(l, {
    log,
    chunkRows: 10_000,
    onEvents: (events) => {
      const chars = events.reduce((sum, { after }) => sum + (after?.length ?? 0), 0);
      largest.chars = Math.max(largest.chars, chars);
    },
  });
  await life.until(isDone(log, "initial"));
  expect(life.events.filter(({ op }) => op === "r")).toHaveLength(2020);
  const chunks = Map.groupBy(life.events, ({ transaction }) => transaction.commitLsn);
  for (const rows of chunks.values()) expect(rows.reduce((sum, { after }) => sum + (after?.length ?? 0), 0)).toBeLessThan(9e6);
});

test("a table that is altered, emptied and given another key while it is copied ends equal", async () => {
  const l = await lab(TABLE);
  await l.sql("INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, 3000) AS n");
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, chunkRows: 50 });
  const rows = () => log.states()[0]?.rows ?? 0;
  await life.until(() => rows() >= 100);
  await l.sql("ALTER TABLE t ADD added int DEFAULT 7");
  await l.sql("DELETE FROM t WHERE id % 3 = 0");
  await life.until(() => rows() >= 300);
  await l.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (added, id)");
  await life.until(({ events }) => events.some(({ op, key }) => op === "r" && key?.startsWith('{"added":7,') === true));
  await l.sql("TRUNCATE t; INSERT INTO t VALUES (-1, 1, 'one', 8)");
  await life.until(isDone(log, "initial"));
  await l.sql("INSERT INTO t VALUES (-2, 1, 'end', 8)");
  await life.until(({ events }) => events.some(({ after }) => after?.includes('"end"') === true));
  const events = life.events.filter(({ op, key }) => op === "t" || key?.startsWith('{"added"') === true);
  expect([...replicaOf(events, ["added", "id"]).keys()].sort()).toEqual(['{"added":8,"id":-1}', '{"added":8,"id":-2}']);
});

test("a table that is dropped while it is copied, or waits to be, ends its copy alone", async () => {
  const l = await lab(`${TABLE}; CREATE TABLE u (id int PRIMARY KEY)`);
  await l.sql(
    "INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, 3000) AS n; INSERT INTO u SELECT generate_series(1, 50000)",
  );
  await past(l);
  const log = new MemoryLog();
  const life = await Life.start(l, { log, chunkRows: 50 });
  await life.until(() => (log.states()[0]?.rows ?? 0) >= 100);
  await l.sql("DROP TABLE t; DROP TABLE u; CREATE TABLE v (id int PRIMARY KEY); INSERT INTO v VALUES (1)");
  await life.until(() => log.states().some(({ table, status }) => table === "v" && status === "done"));
  expect(life.failure).toBeNull();
});

test("a table that may not be read any more is tried again until it may, the others go on, and it is told", async () => {
  const l = await lab(
    `${TABLE}; CREATE TABLE k (v int); ALTER TABLE k REPLICA IDENTITY FULL; CREATE TABLE u (id int PRIMARY KEY)`,
  );
  await l.sql(
    "INSERT INTO t SELECT n, 0, 'x' FROM generate_series(1, 500) AS n; INSERT INTO k VALUES (1); INSERT INTO u VALUES (1)",
  );
  await past(l);
  const role = `${l.slot}_role`;
  await l.sql(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD 'p'; GRANT SELECT ON u TO ${role}`);
  const url = l.url.replace(/\/\/[^@]*@/, `//${role}:p@`);
  const log = new MemoryLog();
  const life = await Life.start({ ...l, url }, { log });
  await life.until(() => log.states().filter(({ error }) => error?.code === "MISSING_RIGHT").length === 2);
  await life.until(() => log.states().some(({ table, status }) => table === "u" && status === "done"));
  await l.sql(`INSERT INTO k VALUES (2); INSERT INTO t VALUES (501, 0, 'y'); GRANT SELECT ON t, k TO ${role}`);
  await life.until(isDone(log, "initial", 3));
  expect(log.states().map(({ error }) => error)).toEqual([null, null, null]);
  const of = (name: string) => life.events.filter(({ table }) => table.table === name);
  expect(replicaOf(of("t"), ["id"]).size).toBe(501);
  expect(keylessReplicaOf(of("k"))).toEqual(['{"v":1}', '{"v":2}']);
  await life.stop();
  await l.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});

test("a table whose rows a schema change rewrote past the WAL is copied again, over a restart too", async () => {
  const l = await lab(TABLE);
  await l.sql("INSERT INTO t SELECT n, n, 'x' FROM generate_series(1, 300) AS n");
  await past(l);
  const log = new MemoryLog();
  const first = await Life.start(l, { log });
  await first.until(isDone(log, "initial"));
  await l.sql("INSERT INTO t VALUES (400, 1, 'before')");
  await first.until(({ events }) => events.some(({ key }) => key === '{"id":400}'));
  await l.sql("ALTER TABLE t ALTER n TYPE text USING 'was ' || n");
  await l.sql("INSERT INTO t VALUES (401, 'new', 'after')");
  await first.until(() => log.states().some(({ status }) => status !== "done"));
  await first.stop();
  const second = await Life.start(l, { log });
  await second.until(isDone(log, "initial"));
  const replica = replicaOf([...first.events, ...second.events], ["id"]);
  expect(replica.size).toBe(302);
  expect(replica.get('{"id":7}')).toBe('{"id":7,"n":"was 7","big":"x"}');
});
