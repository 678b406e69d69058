import { expect, test } from "bun:test";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import type { RememberedTable } from "./replica.ts";
import type { Place } from "./table-book.ts";

const TABLES = 50;

const schemaOf = (oid: number): TableSchema =>
  identifySchema({
    ...{ schema: "public", table: `t${oid}`, oid, key: ["id"], identity: "default" },
    columns: [columnSchema("id", "integer", { attnum: 1, nullable: false })],
  });

const placeOf = ({ table }: TableSchema): Place => ({
  partition: { topic: `cascade.public.${table}`, partition: 0 },
  from: null,
  nextOffset: 0n,
});

test("what the replica remembers of all tables is read once, however many ask, and after a change the changed one alone", async () => {
  const schemas = Array.from({ length: TABLES }, (_, n) => schemaOf(n + 1));
  const { replica } = memoryReplica();
  const reads: (number | "all")[] = [];
  const counting: typeof replica = {
    ...replica,
    remembered: (oids) => {
      reads.push(oids === undefined ? "all" : oids.length);
      return replica.remembered(oids);
    },
  };
  const book = tableBook(counting, { history: historyOf(...schemas.map((schema) => [schema, 1n] as const)) });
  const at = { commitLsn: 1n, ordinal: 0 };
  const standings = await Promise.all(schemas.map((schema) => book.standing(schema, at, placeOf(schema))));
  expect(new Set(standings.map(({ kind }) => kind))).toEqual(new Set(["change"]));
  expect(reads).toEqual(["all"]);
  for (const schema of schemas) await book.bring(schema, at, placeOf(schema));
  expect(reads).toEqual(["all", ...schemas.map(() => 1)]);
  expect([...book.byName().values()].map(({ schema }) => schema.id).sort()).toEqual(schemas.map(({ id }) => id).sort());
  for (const schema of schemas) expect((await book.standing(schema, at, placeOf(schema))).kind).toBe("ready");
  book.reread();
  await Promise.all(schemas.map(() => book.awaited()));
  expect(reads.filter((read) => read === "all")).toHaveLength(2);
});

test("when what was changed cannot be read, all is read again", async () => {
  const { replica } = memoryReplica();
  const schema = schemaOf(1);
  let fails = true;
  const book = tableBook(
    {
      ...replica,
      remembered: async (oids) => (oids !== undefined && fails ? Promise.reject(new Error("away")) : replica.remembered(oids)),
    },
    { history: historyOf([schema, 1n]) },
  );
  const at = { commitLsn: 1n, ordinal: 0 };
  const brought = await book.bring(schema, at, placeOf(schema)).then(() => "brought", String);
  expect(brought).toBe("Error: away");
  fails = false;
  expect((await book.standing(schema, at, placeOf(schema))).kind).toBe("ready");
});

test("whoever asks while all is to be read again and again gets what was read after he asked", async () => {
  const { replica } = memoryReplica();
  type Read = Awaited<ReturnType<typeof replica.remembered>>;
  const reads: ((tables: Read) => void)[] = [];
  const book = tableBook({ ...replica, remembered: () => new Promise<Read>((resolve) => reads.push(resolve)) });
  const asked = () => book.awaited();
  const first = asked();
  book.reread();
  const second = asked();
  reads[0]?.([]);
  expect(await first).toEqual([]);
  await Bun.sleep(0);
  book.reread();
  expect(reads.length).toBe(2);
  reads[1]?.([]);
  expect(await second).toEqual([]);
});

test("a table that is here under a name it has no more is due at the end of that name's topic as well", async () => {
  const first = schemaOf(1);
  const between = changed(first, { table: "u" });
  const wider = changed(first, { identity: "full" });
  // What it has become since stands between rows of its own topic.
  const history = historyOf([first, 1n], [between, 3n], [wider, 5n], [changed(wider, { key: [] }), 7n]);
  const at = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
  const here = { oid: 1, schema: between, named: between, revision: 1, awaiting: null, at: at(3n) };
  const dueOf = async (remembered: RememberedTable, options: Parameters<typeof tableBook>[1] = {}) => {
    const { replica, tables, changes } = memoryReplica();
    tables.set(1, remembered);
    const due = await tableBook(replica, { history, ...options }).due(between);
    await due?.(placeOf(between));
    return { changes, schema: tables.get(1)?.schema };
  };
  expect(await dueOf(here)).toEqual({ changes: ["alter 1 as t1"], schema: wider });
  expect((await dueOf({ ...here, schema: wider, named: wider, at: at(5n) })).changes).toEqual([]);
  expect((await dueOf(here, { matches: ({ table }) => table !== "t1" })).changes).toEqual([]);
  expect((await dueOf(here, { policy: "off" })).changes).toEqual([]);
  // Another table has the name by now, and is as it should be.
  const another = { ...here, oid: 2, schema: changed(between, { oid: 2 }), at: at(6n) };
  const crowded = historyOf([first, 1n], [between, 3n], [wider, 5n], [another.schema, 6n]);
  const { replica, tables, changes } = memoryReplica();
  for (const table of [here, { ...another, named: another.schema }]) tables.set(table.oid, table);
  await (await tableBook(replica, { history: crowded }).due(between))?.(placeOf(between));
  expect(changes).toEqual(["alter 1 as t1"]);
  // The topic of the name it has may hold rows of an earlier time, which nobody has applied.
  const ends = async (topic: string) => (topic === "cascade.public.t1" ? new Map([[0, 5n]]) : null);
  await expect(dueOf(here, { ends })).rejects.toThrow("waits until the rows it had under that name before are applied");
});

test("tables that are not as main-db's are found however they came there, now and then", async () => {
  const [same, old, dropped] = [schemaOf(1), schemaOf(2), schemaOf(3)];
  const { replica, tables } = memoryReplica();
  const history = historyOf([same, 1n], [old, 1n], [dropped, 1n], [changed(old, { table: "u" }), 3n]);
  history.learn({ kind: "dropped", schema: "public", table: "t3", oid: 3, at: { commitLsn: 4n, ordinal: 0 } });
  const options = { history };
  const book = tableBook(replica, options);
  expect(await book.overdue(0)).toEqual([]);
  for (const schema of [same, old, dropped]) {
    const at = { commitLsn: 1n, ordinal: 0 };
    tables.set(schema.oid, { oid: schema.oid, schema, at, named: schema, revision: 1, awaiting: null }); // by nobody that the book knows
  }
  expect((await book.overdue(0)).map(({ table }) => table)).toEqual(["u", "t3"]);
  expect(await book.overdue()).toEqual([]);
  expect(await tableBook(replica, { ...options, policy: "off" }).overdue(0)).toEqual([]);
});

test("what another router has brought further since it was looked at stays as it is: its newer columns would go", async () => {
  const first = schemaOf(1);
  const between = changed(first, { table: "u" });
  const wider = changed(between, { columns: [...between.columns, columnSchema("c", "text", { attnum: 2 })] });
  const history = historyOf([first, 1n], [between, 3n], [wider, 5n]);
  const at = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
  const { replica, tables, changes } = memoryReplica();
  tables.set(1, { oid: 1, schema: first, named: first, revision: 1, awaiting: null, at: at(1n) });
  const book = tableBook(replica, { history });
  const due = await book.due(first);
  const standing = await book.standing(between, at(3n), placeOf(between));
  expect(standing).toEqual({ kind: "change", seen: 1 });
  tables.set(1, { oid: 1, schema: wider, named: wider, revision: 2, awaiting: null, at: at(5n) });
  book.reread();
  await due?.(placeOf(first));
  await book.bring(between, at(3n), placeOf(between), { seen: 1 });
  expect([changes, tables.get(1)?.schema]).toEqual([[], wider]);
});

test("a table of which other rows are this replica's now waits for a copy; it stays as it is where the rules are others by now", async () => {
  const { replica, tables } = memoryReplica();
  const from = schemaOf(1);
  const to = changed(from, { table: "other" });
  let isDividedAnew = false;
  const book = tableBook(replica, {
    history: historyOf([from, 1n], [to, 2n]),
    isDividedAnew: () => isDividedAnew,
    agreeToBring: async ({ table }) => {
      if (table === "other" && !isDividedAnew) throw new Error("others");
    },
  });
  const bring = (schema: TableSchema) => book.bring(schema, { commitLsn: 2n, ordinal: 0 }, placeOf(schema));
  await bring(from);
  expect(await bring(to).catch(String)).toBe("Error: others");
  expect(tables.get(1)).toMatchObject({ schema: { id: from.id }, awaiting: null });
  isDividedAnew = true;
  await bring(to);
  expect(tables.get(1)).toMatchObject({ schema: { id: to.id }, awaiting: expect.any(String) });
});
