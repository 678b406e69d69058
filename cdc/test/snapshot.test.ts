import { afterEach, describe, expect, test } from "bun:test";
import pg from "pg";
import { replicaOf } from "./replica-of.ts";
import { isDone, Life, MemoryLog } from "./snapshot-lab.ts";
import { cleanUp, cleanups, type Lab, lab, type Mode } from "./source-lab.ts";

afterEach(cleanUp);

/** Copies of tables on a real server, under load, killed and resumed. */

/** Three columns, of which one is stored out of line: an update that leaves it alone is partial. */
const TABLE = "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL";

async function rowsOf({ sql }: Lab): Promise<ReadonlyMap<string, string>> {
  const { rows } = await sql("SELECT id, n, big FROM t");
  return new Map(rows.map(({ id, n, big }) => [`{"id":${id}}`, JSON.stringify({ id, n, big })]));
}

const sorted = (rows: ReadonlyMap<string, string>) => [...rows].sort(([a], [b]) => (a < b ? -1 : 1));

/** A second session that changes the table until it is stopped. */
async function load({ url }: Lab, statements: readonly string[]): Promise<() => Promise<number>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  let stopped = false;
  let done = 0;
  const loading = (async () => {
    while (!stopped) {
      await client
        .query(statements[Math.floor(Math.random() * statements.length)] as string)
        .catch((error: { code?: string }) => {
          if (error.code !== "23505") throw error;
        });
      done++;
      await Bun.sleep(2); // a poll is slow
    }
  })();
  const stop = async () => {
    stopped = true;
    await loading;
    await client.end().catch(() => undefined);
    return done;
  };
  cleanups.push(stop);
  return stop;
}

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
    const stop = await load(l, LOAD);
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
