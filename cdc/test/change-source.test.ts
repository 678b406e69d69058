import { afterEach, describe, expect, test } from "bun:test";
import { testPostgres } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import type { ChangeEvent } from "@cascade/shared/change-event";
import type { CascadeError } from "@cascade/shared/errors";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import type { SourceMessage } from "../src/change-source.ts";
import { Catalog } from "../src/postgres/catalog.ts";
import { identityWatch } from "../src/postgres/identity-watch.ts";
import { preflight } from "../src/postgres/preflight.ts";
import { connect } from "../src/postgres/session.ts";
import { ensureSlot, slotState } from "../src/postgres/slot.ts";
import { slotAtRest } from "../src/postgres/slot-at-rest.ts";
import { cleanUp, cleanups, codeOf, commits, eventsOf, lab, type Mode, open, read } from "./source-lab.ts";

afterEach(cleanUp);

/** One contract, both sources, on a real server. */

const shown = (event: ChangeEvent) => [event.op, event.table.table, event.before, event.after];

describe.each<Mode>(["stream", "poll"])("%s source", (mode) => {
  test("sends every change in WAL order, the schema before its first row", async () => {
    const l = await lab('CREATE TABLE "we.ird ""T"" é" (id int PRIMARY KEY, n numeric(10,2), t text)');
    const name = '"we.ird ""T"" é"';
    await l.sql(`INSERT INTO ${name} VALUES (1, 1.50, 'a"b'), (2, null, null)`);
    await l.sql(`UPDATE ${name} SET id = 3, n = 2 WHERE id = 1`);
    await l.sql(`DELETE FROM ${name} WHERE id = 2`);
    await l.sql(`TRUNCATE ${name}`);
    const seen = await read(await open(mode, l), commits(4));
    const kinds = seen.map(({ kind }) => kind).filter((kind) => kind !== "keepalive" && kind !== "table");
    expect(kinds.slice(0, 4)).toEqual(["schema", "change", "change", "commit"]);
    const table = 'we.ird "T" é';
    expect(eventsOf(seen).map(shown)).toEqual([
      ["c", table, null, '{"id":1,"n":"1.50","t":"a\\"b"}'],
      ["c", table, null, '{"id":2,"n":null,"t":null}'],
      ["u", table, '{"id":1}', '{"id":3,"n":"2.00","t":"a\\"b"}'],
      ["d", table, '{"id":2}', null],
      ["t", table, null, null],
    ]);
    const schema = seen.find((m) => m.kind === "schema");
    expect(schema).toMatchObject({
      topic: "cascade.public.we_x2Eird_x20_x22T_x22_x20_xC3_xA9",
      schema: {
        key: ["id"],
        identity: "default",
        columns: [{ name: "id", type: "integer" }, { type: "numeric(10,2)" }, { type: "text" }],
      },
    });
  });

  test("messages of ours come where they stand, with the schema that their table has there; nobody else's come", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
    const emit = (prefix: string, content: string, transactional = true) =>
      `SELECT pg_logical_emit_message(${transactional}, '${prefix}', '${content}')`;
    const content = JSON.stringify({ id: 'a "b" é', schema: "public", table: "t" });
    await l.sql(emit("someone.else", "x"));
    await l.sql(`BEGIN; INSERT INTO t VALUES (1); ${emit("cascade.ddl", "{}")}; INSERT INTO t VALUES (2); COMMIT`);
    await l.sql(emit("cascade.snapshot", "nothing that we know", false));
    await l.sql(emit("cascade.snapshot", content));
    const seen = await read(await open(mode, l), (all) => all.some((m) => m.kind === "mark" && m.prefix === "cascade.snapshot"));
    const places = seen.flatMap((m) => {
      if (m.kind === "mark") return [[m.prefix, m.content, m.ordinal, m.table?.table ?? null]];
      return m.kind === "change" ? [[m.event.op, String(m.event.key), m.event.ordinal]] : [];
    });
    expect(places).toEqual([
      ["c", '{"id":1}', 0],
      ["c", '{"id":2}', 2],
      ["cascade.snapshot", content, 0, "t"],
    ]);
  });

  test("delivers again what was not confirmed, at the same positions, and nothing that was", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
    for (const id of [1, 2, 3]) await l.sql(`INSERT INTO t VALUES (${id}), (${id + 10})`);
    const first = await open(mode, l);
    const seen = await read(first, commits(3));
    const ends = seen.flatMap((m) => (m.kind === "commit" ? [m.endLsn] : []));
    first.confirm(ends[0] as bigint);
    await first[Symbol.asyncDispose]();
    const again = await read(await open(mode, l), commits(2));
    const position = ({ transaction, ordinal }: ChangeEvent) => [transaction.commitLsn, ordinal];
    expect(eventsOf(again).map(position)).toEqual(eventsOf(seen).slice(2).map(position));
    expect(eventsOf(again).map(({ key }) => key)).toEqual(['{"id":2}', '{"id":12}', '{"id":3}', '{"id":13}']);
  });

  test("an idle slot moves on with the keepalives that are confirmed", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA other; CREATE TABLE other.x (id int)");
    await l.sql("INSERT INTO other.x SELECT generate_series(1, 100)");
    const source = await open(mode, l);
    await l.sql("SELECT pg_switch_wal()");
    // What ends a transaction is confirmed as it comes: a poll shows it again until then.
    const seen = await read(source, (all) => {
      for (const message of all) if (message.kind === "commit") source.confirm(message.endLsn);
      return all.at(-1)?.kind === "keepalive" && all.some(({ kind }) => kind === "commit");
    });
    expect(eventsOf(seen)).toEqual([]);
    const keepalive = seen.findLast((m) => m.kind === "keepalive");
    source.confirm(keepalive?.walEnd ?? 0n);
    await source[Symbol.asyncDispose]();
    const session = await connect(l.url);
    cleanups.push(() => session.end());
    expect((await slotState(session, l.slot))?.confirmedLsn).toBeGreaterThanOrEqual(keepalive?.walEnd ?? 0n);
  });

  test("leaf partitions travel as their root, with their columns in any order; materialized views never leak", async () => {
    const l = await lab(`
      CREATE TABLE p (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
      CREATE TABLE p_odd (v text, gone int, at date NOT NULL, id int NOT NULL, PRIMARY KEY (id, at));
      ALTER TABLE p_odd DROP COLUMN gone;
      ALTER TABLE p ATTACH PARTITION p_odd FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
      CREATE TABLE p_new PARTITION OF p FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
      CREATE MATERIALIZED VIEW m AS SELECT 1 AS one`);
    await l.sql("INSERT INTO p VALUES (1, '2026-05-01', 'x')");
    await l.sql("UPDATE p SET at = '2027-05-01'");
    await l.sql("CREATE MATERIALIZED VIEW m2 AS SELECT * FROM p");
    await l.sql("TRUNCATE p");
    await l.sql("INSERT INTO p VALUES (2, '2026-05-01', 'y')");
    await l.sql("TRUNCATE p_odd");
    await l.sql("INSERT INTO p VALUES (3, '2026-05-01', 'z')");
    const warnings: string[] = [];
    const seen = await read(await open(mode, l, warnings), (all) =>
      eventsOf(all).some(({ after }) => after?.includes('"z"') === true),
    );
    expect(eventsOf(seen).map(({ op, table, key }) => [op, table.topic, JSON.parse(key ?? "null")])).toEqual([
      ["c", "cascade.public.p", { id: 1, at: "2026-05-01" }],
      ["d", "cascade.public.p", { id: 1, at: "2026-05-01" }],
      ["c", "cascade.public.p", { id: 1, at: "2027-05-01" }],
      ["t", "cascade.public.p", null],
      ["c", "cascade.public.p", { id: 2, at: "2026-05-01" }],
      ["c", "cascade.public.p", { id: 3, at: "2026-05-01" }],
    ]);
    expect(warnings.filter((warning) => warning.includes("partition public.p_odd was truncated by itself"))).toHaveLength(1);
  });

  test("a table that changes while cdc runs is read anew; unchanged TOAST columns stay absent", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, big text, n int); ALTER TABLE t ALTER big SET STORAGE EXTERNAL");
    const source = await open(mode, l);
    await l.sql("INSERT INTO t VALUES (1, repeat('x', 10000), 1)");
    await l.sql("UPDATE t SET n = 2");
    const seen = await read(source, commits(2));
    expect(eventsOf(seen)[1]?.after).toBe('{"id":1,"n":2}');
    for (const message of seen) if (message.kind === "commit") source.confirm(message.endLsn);
    await l.sql("ALTER TABLE t ADD added text DEFAULT 'd'");
    await l.sql("INSERT INTO t VALUES (2, 'y', 3, 'z')");
    const later = await read(source, (all) => eventsOf(all).length > 0);
    expect(eventsOf(later)[0]?.after).toBe('{"id":2,"big":"y","n":3,"added":"z"}');
    expect(later.filter(({ kind }) => kind === "schema")).toHaveLength(1);
  });

  test("rows from before a column was added, and after one was dropped, come under the schema they fit", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY, gone text); CREATE TABLE k (v text, gone text)");
    await l.sql("ALTER TABLE k REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'g'); INSERT INTO k VALUES ('a', 'g')");
    await l.sql("ALTER TABLE t ADD added text DEFAULT 'd', ADD more int; INSERT INTO t VALUES (2, 'g', 'x', 1)");
    const source = await open(mode, l);
    const seen = await read(source, commits(2));
    for (const message of seen) if (message.kind === "commit") source.confirm(message.endLsn);
    await l.sql("ALTER TABLE t DROP gone; ALTER TABLE k DROP gone");
    await l.sql("INSERT INTO t VALUES (3, 'y', 2); UPDATE k SET v = 'b'; DELETE FROM k");
    const later = await read(source, (all) => eventsOf(all).length >= 3);
    expect([...eventsOf(seen), ...eventsOf(later)].map(({ before, after }) => [before, after])).toEqual([
      [null, '{"id":1,"gone":"g"}'],
      [null, '{"v":"a","gone":"g"}'],
      [null, '{"id":2,"gone":"g","added":"x","more":1}'],
      [null, '{"id":3,"added":"y","more":2}'],
      ['{"v":"a"}', '{"v":"b"}'],
      ['{"v":"b"}', null],
    ]);
    const schemas = [...seen, ...later].flatMap((message) => (message.kind === "schema" ? [message.schema] : []));
    expect(schemas.map(({ columns }) => columns.map(({ name }) => name).join())).toEqual([
      "id,gone",
      "v,gone",
      "id,gone,added,more",
      "id,added,more",
      "v",
    ]);
  });

  test("a key stored out of line comes with every update", async () => {
    const l = await lab("CREATE TABLE t (k text PRIMARY KEY, n int, big text); ALTER TABLE t ALTER k SET STORAGE EXTERNAL");
    const source = await open(mode, l);
    await l.sql("INSERT INTO t VALUES (repeat('k', 2200), 1, repeat('x', 100))");
    await l.sql("UPDATE t SET n = 2");
    const [, update] = eventsOf(await read(source, commits(2)));
    const k = "k".repeat(2200);
    expect(update?.key).toBe(JSON.stringify({ k }));
    expect(JSON.parse(update?.after ?? "")).toEqual({ k, n: 2, big: "x".repeat(100) });
  });

  test("what changes in a table but not in the look of its rows is noticed before the next of them", async () => {
    const l = await lab(`
      CREATE TABLE t (id int PRIMARY KEY, region int NOT NULL, n numeric(10,2));
      CREATE TABLE p (id int, v int, PRIMARY KEY (id, v)) PARTITION BY LIST (v);
      CREATE TABLE p1 (id int, v int NOT NULL, PRIMARY KEY (id, v))`);
    const source = await open(mode, l);
    const until = (text: string) => (all: readonly SourceMessage[]) => {
      for (const message of all) if (message.kind === "commit") source.confirm(message.endLsn);
      return eventsOf(all).some(({ key }) => key === text);
    };
    await l.sql("INSERT INTO t VALUES (1, 1, 1)");
    await l.sql("INSERT INTO p1 VALUES (1, 1)");
    const before = await read(source, until('{"id":1,"v":1}'));
    await l.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, region)");
    await l.sql("ALTER TABLE t ALTER n TYPE numeric(12,4)");
    await l.sql("INSERT INTO t VALUES (1, 2, 1.2345)");
    await l.sql("ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1)");
    await l.sql("INSERT INTO p VALUES (2, 1)");
    const after = await read(source, until('{"id":2,"v":1}'));
    const shownKeys = (seen: readonly SourceMessage[]) => eventsOf(seen).map(({ table, key }) => `${table.table} ${key}`);
    expect(shownKeys(before)).toEqual(['t {"id":1}', 'p1 {"id":1,"v":1}']);
    expect(shownKeys(after)).toEqual(['t {"id":1,"region":2}', 'p {"id":2,"v":1}']);
    const schemas = after.flatMap((message) => (message.kind === "schema" ? [message.schema] : []));
    expect(schemas.find(({ table }) => table === "t")?.columns[2]?.type).toBe("numeric(12,4)");
  });

  test("a truncated branch of a partition tree is not the whole tree", async () => {
    const l = await lab(`
      CREATE TABLE p (a int, b int, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
      CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) PARTITION BY LIST (b);
      CREATE TABLE p11 PARTITION OF p1 FOR VALUES IN (1);
      CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)`);
    await l.sql("INSERT INTO p VALUES (1, 1), (2, 2)");
    await l.sql("TRUNCATE p1");
    await l.sql("TRUNCATE p");
    const warnings: string[] = [];
    const seen = await read(await open(mode, l, warnings), commits(3));
    expect(eventsOf(seen).map(({ op }) => op)).toEqual(["c", "c", "t"]);
    expect(warnings.some((warning) => warning.includes("public.p1 was truncated by itself"))).toBe(true);
  });

  test("what came before a row that cannot be read is handed over first", async () => {
    const l = await lab("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE f (n float8 PRIMARY KEY)");
    await l.sql("INSERT INTO t VALUES (1)");
    await l.sql("INSERT INTO f VALUES ('NaN')");
    const source = await open(mode, l);
    const seen: SourceMessage[] = [];
    const reading = read(source, (all) => {
      seen.push(...all.slice(seen.length));
      return false;
    });
    expect(await codeOf(reading)).toBe("SPECIAL_NUMBER_LOST");
    expect(eventsOf(seen).map(({ key }) => key)).toEqual(['{"id":1}']);
  });

  test("a table that appears without replica identity stops cdc with its name", async () => {
    const l = await lab("");
    await l.sql("CREATE TABLE scratch (id int)");
    await l.sql("INSERT INTO scratch VALUES (1)");
    // The first commit is that of CREATE TABLE, which sends no row.
    expect(await codeOf(read(await open(mode, l), commits(2)))).toBe("NO_REPLICA_IDENTITY");
  });
});

test("a second stream waits for the slot and takes it over", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const first = await open("stream", l);
  expect(await codeOf(open("stream", l))).toBe("SLOT_ACTIVE");
  await first[Symbol.asyncDispose]();
  await l.sql("INSERT INTO t VALUES (1)");
  expect(eventsOf(await read(await open("stream", l), commits(1)))).toHaveLength(1);
});

test("a stream that ends has confirmed what it was told, however much is still on its way", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  for (let id = 0; id < 10; id++) {
    await l.sql(`INSERT INTO t SELECT generate_series(${id * 1000}, ${id * 1000 + 999})`);
    const source = await open("stream", l);
    const seen = await read(source, commits(1));
    await l.sql("INSERT INTO t SELECT generate_series(-30000, -1); TRUNCATE t");
    const end = seen.find((message) => message.kind === "commit")?.endLsn ?? 0n;
    source.confirm(end);
    await source[Symbol.asyncDispose]();
    const session = await connect(l.url);
    expect((await slotState(session, l.slot))?.confirmedLsn).toBe(end);
    await session.query("SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", [l.slot]);
    await session.end();
  }
});

test("a stream that main-db cuts ends with an error that heals", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const code = codeOf(read(await open("stream", l), () => false));
  await l.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()");
  expect(await code).toBe("MAIN_DB_AWAY");
});

test("preflight names every table whose changes would be lost, and its cure", async () => {
  const l = await lab(`
    CREATE TABLE fine (id int PRIMARY KEY);
    CREATE TABLE whole (id int); ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE keyless (id int);
    CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE indexed (id int PRIMARY KEY, code text NOT NULL UNIQUE);
    ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key;
    CREATE TEMPORARY TABLE mine (id int); CREATE UNLOGGED TABLE unlogged (id int);
    CREATE SCHEMA other; CREATE TABLE other.keyless (id int)`);
  const session = await connect(l.url);
  cleanups.push(() => session.end());
  const findings = await preflight(session, new Catalog(session, parseTableFilter("public.*"), "cascade"), "stream");
  expect(findings.map(({ message }) => /of (\S+) would/.exec(message)?.[1])).toEqual([
    "public.keyless",
    "public.deferred",
    "public.nothing",
  ]);
  expect(findings[0]?.advice).toContain('ALTER TABLE "public"."keyless" REPLICA IDENTITY FULL');
});

test("a table that loses its identity is told of at the next look, one that never had any is not", async () => {
  const l = await lab(
    "CREATE TABLE fine (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE scratch (id int)",
  );
  const session = await connect(l.url);
  cleanups.push(() => session.end());
  const catalog = new Catalog(session, parseTableFilter("public.*"), "cascade");
  const look = identityWatch(() => catalog.captured());
  await look();
  await l.sql("ALTER TABLE t DROP CONSTRAINT t_pkey");
  const error = await look().catch((refusal: CascadeError) => refusal);
  expect(error).toMatchObject({ code: "NO_REPLICA_IDENTITY", verdict: "refuse", message: expect.stringContaining("public.t ") });
  await l.sql("ALTER TABLE t ADD PRIMARY KEY (id)");
  await look();
});

test("preflight refuses a database whose bytes a stream would not bring over as they are", async () => {
  const server = await testPostgres();
  const name = `latin_${process.pid}`;
  await server.query("postgres", `CREATE DATABASE ${name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`);
  cleanups.push(() => server.dropDatabase(name));
  const session = await connect(server.url(name));
  cleanups.push(() => session.end());
  const codes = async (mode: Mode) =>
    (await preflight(session, new Catalog(session, parseTableFilter("public.*"), "cascade"), mode)).map(({ code }) => code);
  expect(await codes("stream")).toEqual(["ENCODING"]);
  expect(await codes("poll")).toEqual([]);
});

test("a slot that is gone after something was published, or of another plugin, is refused", async () => {
  const l = await lab("");
  const session = await connect(l.url);
  cleanups.push(() => session.end());
  expect(await codeOf(ensureSlot(session, { slot: `${l.slot}_b`, hasPublished: true }))).toBe("SLOT_LOST");
  await l.sql(`SELECT pg_create_logical_replication_slot('${l.slot}_c', 'test_decoding')`);
  expect(await codeOf(ensureSlot(session, { slot: `${l.slot}_c`, hasPublished: false }))).toBe("FOREIGN_SLOT");
});

test("whoever keeps the slot from being created is named, to those who watch and in the log", async () => {
  const l = await lab("");
  const [client, watcher, other] = [await connect(l.url), await connect(l.url), await connect(l.url)];
  cleanups.push(() => Promise.all([client.end(), watcher.end(), other.end()]));
  await other.query("BEGIN; SET application_name = 'nightly'; SELECT pg_current_xact_id()");
  const [waited, warned]: [(string | null)[], string[]] = [[], []];
  const creating = slotAtRest({
    client,
    watcher,
    catalog: new Catalog(client, parseTableFilter("public.*"), "cascade"),
    request: { slot: `${l.slot}_d`, hasPublished: false },
    waiting: (reason) => void waited.push(reason),
    warn: (message) => void warned.push(message),
  });
  expect(await until(async () => waited.length > 0, 10_000)).toBe(true);
  await other.query("COMMIT");
  expect((await creating).slot).toBe("created");
  await l.sql(`SELECT pg_drop_replication_slot('${l.slot}_d')`);
  expect(waited[0]).toMatch(
    /^creating replication slot .* waits until the transaction of main-db's process \d+ \(nightly, database .*, open for \d+ s\) has ended$/,
  );
  expect(waited.at(-1)).toBeNull();
  expect(warned).toHaveLength(1);
});
