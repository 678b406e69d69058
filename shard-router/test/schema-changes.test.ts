import { afterEach, describe, expect, test } from "bun:test";
import type { WireRow } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { KeyRefusedError } from "../src/key-refused.ts";
import type { Replica } from "../src/replica.ts";
import { after, applier, event, REPLICA_KINDS, type ReplicaKind, type ReplicaLab, replicaLab } from "./replica-labs.ts";
import { type Changer, changed, changer, tableChanger } from "./table-changer.ts";

/** Every kind of schema change, on real engines: rows stay, and the table takes the rows of the new schema. */

const labs: ReplicaLab[] = [];
afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.close();
});

const KINDS = REPLICA_KINDS;

async function failure(act: Promise<unknown>): Promise<CascadeError> {
  try {
    await act;
  } catch (error) {
    if (error instanceof CascadeError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

async function put(replica: Replica, schema: TableSchema, ...rows: readonly WireRow[]): Promise<void> {
  await (await applier(replica, schema)).apply(rows.map((row) => event("c", null, row)));
}

const t = tableSchema("t", { id: "integer", a: "text", b: "text" });
const [id, a, b] = t.columns as readonly [ColumnSchema, ColumnSchema, ColumnSchema];

describe.each(KINDS)("%s replica", (kind: ReplicaKind) => {
  const lab = async (): Promise<ReplicaLab> => {
    const opened = await replicaLab(kind);
    labs.push(opened);
    return opened;
  };
  const expectRows = async (l: ReplicaLab, schema: TableSchema, rows: readonly WireRow[]) =>
    expect(comparableRows(await l.rows(schema))).toEqual(comparableRows(rows));
  /** A table `t` with two rows. */
  const filled = async (): Promise<Changer> => {
    const opened = await changer(await lab());
    await opened.create(t);
    await put(opened.replica, t, { id: 1, a: "a1", b: "b1" }, { id: 2, a: "a2", b: null });
    return opened;
  };

  test("columns are added with what older rows have in them, in every type", async () => {
    const { lab: l, replica, alter } = await filled();
    const added = [
      columnSchema("plain", "integer", { attnum: 4 }),
      columnSchema("n", "integer", { attnum: 5, nullable: false, missing: 7 }),
      columnSchema("big", "bigint", { attnum: 6, missing: "9007199254740993" }),
      columnSchema("said", "text", { attnum: 7, nullable: false, missing: 'it\'s "new" \\ é' }),
      columnSchema("price", "numeric(10,2)", { attnum: 8, missing: "1.50" }),
      columnSchema("yes", "boolean", { attnum: 9, missing: true }),
      columnSchema("day", "date", { attnum: 10, missing: "2024-02-29" }),
      columnSchema("bytes", "bytea", { attnum: 11, missing: "AP8=" }),
      columnSchema("f", "double precision", { attnum: 12, missing: 5 }),
      columnSchema("mood", "public.mood", { attnum: 13, missing: "fine" }),
    ];
    const to = changed(t, { columns: [...t.columns, ...added] });
    await alter(to);
    const fresh = {
      ...{ plain: 1, n: 7, big: "9007199254740993", said: 'it\'s "new" \\ é', price: "1.50", yes: true, day: "2024-02-29" },
      ...{ bytes: "AP8=", f: 5, mood: "fine" },
    };
    await put(replica, to, { id: 3, a: null, b: null, ...fresh });
    const [old, , made] = (await l.rows(to)).toSorted((x, y) => Number(x["id"]) - Number(y["id"]));
    // What was added is what the router itself writes.
    expect({ ...old, id: 3, a: null, b: null, plain: String(made?.["plain"]) }).toEqual({
      ...made,
      id: old?.["id"] && 3,
      plain: String(made?.["plain"]),
    } as never);
    expect(old?.["plain"]).toBeNull();
  });

  test("columns are dropped and renamed, names go round, and the rows stay", async () => {
    const { lab: l, replica, alter } = await filled();
    await l.sql(`CREATE INDEX own ON ${l.nameOf(t)} (${l.quote("a")})`);
    const swapped = changed(t, {
      columns: [
        { ...id, name: "a" },
        { ...a, name: "b" },
        { ...b, name: "id" },
      ],
      key: ["a"],
    });
    await alter(swapped);
    await expectRows(l, swapped, [
      { a: 1, b: "a1", id: "b1" },
      { a: 2, b: "a2", id: null },
    ]);
    const fewer = changed(swapped, {
      columns: [
        { ...id, name: "k" },
        { ...a, name: "id" },
      ],
      key: ["k"],
    });
    await alter(fewer);
    await put(replica, fewer, { k: 2, id: "new" });
    await expectRows(l, fewer, [
      { k: 1, id: "a1" },
      { k: 2, id: "new" },
    ]);
  });

  test("a dropped column's name is another column's at once", async () => {
    const { lab: l, alter } = await filled();
    const to = changed(t, { columns: [id, { ...b, name: "a" }, columnSchema("b", "integer", { attnum: 4, missing: 3 })] });
    await alter(to);
    await expectRows(l, to, [
      { id: 1, a: "b1", b: 3 },
      { id: 2, a: null, b: 3 },
    ]);
  });

  test("a column gets another's name and another type at once, whether that one goes or gets a third", async () => {
    const count = columnSchema("n", "integer", { attnum: 4 });
    const from = changed(t, { columns: [id, a, b, count] });
    const text = columnSchema("a", "text", { attnum: 4 });
    for (const others of [[b], [{ ...a, name: "n" }, b]]) {
      const opened = await changer(await lab());
      await opened.create(from);
      await put(opened.replica, from, { id: 1, a: "a1", b: "b1", n: 7 });
      const to = changed(from, { columns: [id, ...others, text] });
      await opened.alter(to);
      const rest = others.length === 1 ? {} : { n: "a1" };
      await expectRows(opened.lab, to, [{ id: 1, b: "b1", ...rest, a: "7" }]);
    }
  });

  test("types widen and convert; what cannot be converted is left to the copy that comes, and stops the table when none does", async () => {
    const { lab: l, replica, alter } = await filled();
    const wide = changed(t, {
      columns: [{ ...id, type: "bigint", typeOid: 20 }, { ...a, type: "character varying(40)", typeOid: 1043 }, b],
    });
    await alter(wide);
    await put(replica, wide, { id: "9007199254740993", a: "w", b: null });
    await expectRows(l, wide, [
      { id: "1", a: "a1", b: "b1" },
      { id: "2", a: "a2", b: null },
      { id: "9007199254740993", a: "w", b: null },
    ]);
    const numbers = changed(wide, { columns: [wide.columns[0] as ColumnSchema, { ...a, type: "integer", typeOid: 23 }, b] });
    const refused = await failure(alter(numbers));
    expect(refused.verdict).toBe("stop-table");
    expect(refused.message).not.toContain("a1");
    await alter(numbers, { rewritten: true });
    await put(replica, numbers, { id: "1", a: 5, b: "b1" });
    await expectRows(l, numbers, [
      { id: "1", a: 5, b: "b1" },
      { id: "2", a: null, b: null },
      { id: "9007199254740993", a: null, b: null },
    ]);
    const texts = changed(numbers, { columns: [wide.columns[0] as ColumnSchema, a, { ...b, type: "integer", typeOid: 23 }] });
    await alter(texts, { rewritten: true });
    expect((await l.rows(texts)).map((row) => row["a"]).sort()).toEqual(["5", null, null]);
  });

  test("NULL is taken and refused as main-db does, where the rows allow it", async () => {
    const { lab: l, replica, alter } = await filled();
    const strict = changed(t, { columns: [id, { ...a, nullable: false }, { ...b, nullable: false }] });
    await alter(strict);
    expect((await failure(put(replica, strict, { id: 3, a: null, b: "b" } as WireRow))).code).toBe("CONSTRAINT_VIOLATED");
    await alter(t);
    await put(replica, t, { id: 3, a: null, b: null });
    expect(await l.rows(t)).toHaveLength(3);
  });

  test("the key changes: to another column, to more, to none and back; the rows and an index of the replica's own stay", async () => {
    const { lab: l, replica, alter } = await filled();
    await l.sql(`CREATE INDEX own ON ${l.nameOf(t)} (${l.quote("b")}); CREATE VIEW seen AS SELECT a FROM ${l.nameOf(t)}`);
    const byA = changed(t, { columns: [id, { ...a, nullable: false }, b], key: ["a"] });
    await alter(byA);
    const router = await applier(replica, byA);
    await router.apply([event("u", { a: "a1" }, { id: 1, a: "a1", b: "again" }), event("c", null, { id: 1, a: "a3", b: null })]);
    await expectRows(l, byA, [
      { id: 1, a: "a1", b: "again" },
      { id: 2, a: "a2", b: null },
      { id: 1, a: "a3", b: null },
    ]);
    await router.apply([event("d", { a: "a3" }, null)]);
    const both = changed(byA, { key: ["a", "id"] });
    await alter(both);
    await alter(changed(both, { key: ["id", "a"] })); // which only its order tells from the one before
    const none = changed(both, { key: [], identity: "full" });
    await alter(none);
    const keyless = await applier(replica, none);
    await keyless.apply([event("c", null, { id: 2, a: "a2", b: null }), event("c", null, { id: 2, a: "a2", b: null })]);
    await keyless.apply([event("d", { id: 2, a: "a2", b: null }, null), event("d", { id: 2, a: "a2", b: null }, null)]);
    await alter(t);
    await put(replica, t, { id: 1, a: "last", b: null });
    await expectRows(l, t, [
      { id: 1, a: "last", b: null },
      { id: 2, a: "a2", b: null },
    ]);
    expect(await l.sql("SELECT * FROM seen")).toHaveLength(2);
  });

  test("a key column is dropped, and a new one takes its place", async () => {
    const { lab: l, replica, alter } = await filled();
    const to = changed(t, { columns: [{ ...a, nullable: false }, b], key: ["a"] });
    await alter(to);
    await put(replica, to, { a: "a1", b: "new" });
    await expectRows(l, to, [
      { a: "a1", b: "new" },
      { a: "a2", b: null },
    ]);
    const anew = changed(to, {
      columns: [{ ...a, nullable: false }, b, columnSchema("n", "integer", { attnum: 9, nullable: false })],
      key: ["n"],
    });
    await alter(anew, { rewritten: true, empties: true });
    await put(replica, anew, { a: "a1", b: "b1", n: 1 });
    await expectRows(l, anew, [{ a: "a1", b: "b1", n: 1 }]);
  });

  test("rows that do not allow a new key are told from all else that may be in the way, and the table takes the key without them", async () => {
    const { lab: l, replica, alter, remembered, change } = await filled();
    const none = changed(t, { key: [], identity: "full" });
    await alter(none);
    await put(replica, none, { id: 2, a: "a3", b: "b3" });
    const keyed = changed(t, { columns: [{ ...id, name: "ident" }, a, b], key: ["ident"] });
    const byB = changed(t, { columns: [id, a, { ...b, nullable: false }], key: ["b"] });
    // Not announced as rewritten: what main-db put into it came by updates.
    const added = changed(t, {
      columns: [...t.columns, columnSchema("k", "integer", { attnum: 9, nullable: false })],
      key: ["k"],
    });
    for (const refused of [keyed, byB, added]) {
      const error = await failure(alter(refused));
      expect(error).toBeInstanceOf(KeyRefusedError);
      expect(error.message + error.advice).not.toMatch(/a3|b3/);
      expect(await l.rows(none)).toHaveLength(3);
    }
    const from = await remembered(t.oid);
    await change({ kind: "await", from, awaiting: "copy" });
    await alter(keyed, { from: { ...from, revision: from.revision + 1 }, empties: true });
    expect(await remembered(t.oid)).toMatchObject({ awaiting: "copy", schema: { id: keyed.id } });
    await put(replica, keyed, { ident: 2, a: "a4", b: null }, { ident: 2, a: "a5", b: null });
    await expectRows(l, keyed, [{ ident: 2, a: "a5", b: null }]);
  });

  test("a NULL is no key, not even of one integer; an index of the replica's own that rows do not allow is not the key", async () => {
    const { lab: l, replica, alter, create } = await changer(await lab());
    const none = changed(t, { key: [], identity: "full", columns: [{ ...id, nullable: true }, a, b] });
    await create(none);
    await put(replica, none, { id: 1, a: "1", b: null }, { id: null, a: "01", b: null });
    const error = await failure(alter(t));
    expect(error).toBeInstanceOf(KeyRefusedError);
    expect(await l.rows(none)).toHaveLength(2);
    await l.sql(`UPDATE ${l.nameOf(t)} SET id = 2 WHERE id IS NULL`);
    // The others do not convert that.
    if (kind === "mariadb" || kind === "postgres") {
      await l.sql(`CREATE UNIQUE INDEX own ON ${l.nameOf(t)} (${kind === "mariadb" ? "a(20)" : "a"})`);
      const numbers = changed(t, { columns: [id, columnSchema("a", "integer", { attnum: a.attnum }), b] });
      const own = await alter(numbers, { rewritten: true }).catch((refusal: unknown) => refusal);
      expect(own).toBeInstanceOf(Error);
      expect(own).not.toBeInstanceOf(KeyRefusedError);
      await l.sql(kind === "mariadb" ? `DROP INDEX own ON ${l.nameOf(t)}` : "DROP INDEX public.own");
      await l.sql(`UPDATE ${l.nameOf(t)} SET id = NULL WHERE id = 2`);
      expect(await failure(alter(numbers, { rewritten: true }))).toBeInstanceOf(KeyRefusedError);
      await l.sql(`UPDATE ${l.nameOf(t)} SET id = 2 WHERE id IS NULL`);
    }
    await alter(t);
    await expectRows(l, t, [
      { id: 1, a: "1", b: null },
      { id: 2, a: "01", b: null },
    ]);
  });

  test("a key of a new column is taken by an empty table, and one of a column that somebody has added by rows that allow it", async () => {
    const { lab: l, replica, alter, create } = await changer(await lab());
    const none = changed(t, { key: [], identity: "full" });
    await create(none);
    const k = columnSchema("k", "integer", { attnum: 9, nullable: false });
    const keyed = changed(t, { columns: [...t.columns, k], key: ["k"] });
    await alter(keyed);
    await put(replica, keyed, { id: 1, a: null, b: null, k: 1 }, { id: 1, a: null, b: null, k: 2 });
    const both = changed(keyed, { columns: [...t.columns, k, { ...k, name: "m", attnum: 10 }], key: ["id", "m"] });
    await l.sql(`ALTER TABLE ${l.nameOf(t)} ADD COLUMN m integer`);
    await l.sql(`UPDATE ${l.nameOf(t)} SET m = k`);
    await alter(both);
    await put(replica, both, { id: 1, a: "new", b: null, k: 2, m: 2 });
    await expectRows(l, both, [
      { id: 1, a: null, b: null, k: 1, m: 1 },
      { id: 1, a: "new", b: null, k: 2, m: 2 },
    ]);
  });

  test("tables are renamed, swap their names, and are dropped", async () => {
    const { lab: l, replica, change, remembered, create, alter } = await filled();
    const u = changed(tableSchema("u", { id: "integer" }), { oid: 2 });
    await create(u);
    await put(replica, u, { id: 7 });
    const spare = { schema: "public", table: "cascade moving 2" };
    const [one, two] = [await remembered(t.oid), await remembered(u.oid)];
    const [tAsU, uAsT] = [changed(t, { table: "u" }), changed(u, { table: "t" })];
    await change(
      { kind: "move", from: two, named: spare },
      { kind: "alter", from: one, schema: tAsU, at: one.at, named: tAsU, steps: [], rewritten: false, empties: false },
      { kind: "move", from: { ...two, named: spare, revision: two.revision + 1 }, named: { schema: "public", table: "t" } },
    );
    await expectRows(l, tAsU, [
      { id: 1, a: "a1", b: "b1" },
      { id: 2, a: "a2", b: null },
    ]);
    await expectRows(l, uAsT, [{ id: 7 }]);
    await alter(uAsT);
    const elsewhere = changed(tAsU, { schema: "other", table: "V" });
    await alter(elsewhere);
    expect(await l.rows(elsewhere)).toHaveLength(2);
    await change({ kind: "drop", from: await remembered(t.oid) });
    expect(await l.rows(elsewhere).catch(() => "gone")).toBe("gone");
    await create(elsewhere);
    expect(await l.rows(elsewhere)).toEqual([]);
    expect((await replica.remembered()).map(({ oid }) => oid).sort((x, y) => x - y)).toEqual([2, t.oid]);
  });

  test("what was remembered otherwise, or has moved on, is not changed; a change that fails leaves nothing", async () => {
    const { lab: l, replica, change, remembered, alter } = await filled();
    const stale = await remembered(t.oid);
    const to = changed(t, { columns: [id, a, b, columnSchema("c", "text", { attnum: 4 })] });
    await alter(to);
    expect((await failure(alter(t, { from: stale }))).code).toBe("FENCED");
    expect((await failure(change({ kind: "drop", from: stale }))).code).toBe("FENCED");
    const router = await applier(replica, to);
    const work = { statements: [], inOrder: () => [], tables: [stale] };
    expect((await failure(router.applyWork(work))).code).toBe("FENCED");
    await router.applyWork({ ...work, tables: [await remembered(t.oid)] });
    const broken = changed(to, { columns: [id, { ...a, name: "renamed" }, b, to.columns[3] as ColumnSchema], key: ["b"] });
    const now = await remembered(t.oid);
    await failure(alter(broken)); // b has a NULL
    expect(await remembered(t.oid)).toEqual(now);
    expect(await l.rows(to)).toHaveLength(2);
    const advance = { partition: { topic: "other", partition: 0 }, from: after(null), to: after(after(null)) };
    expect((await failure(replica.change([{ kind: "drop", from: now }], advance))).code).toBe("FENCED");
  });

  test("a table that another router has dropped is not made anew by one that remembers it", async () => {
    const { lab: l, replica, change, remembered, create } = await changer(await lab());
    await create(t);
    const table = await remembered(t.oid);
    await l.sql(`DROP TABLE ${l.nameOf(t)}`);
    await replica.prepare(t, true, t, table.revision);
    expect(await l.rows(t)).toEqual([]);
    await change({ kind: "drop", from: table });
    const late = await failure(replica.prepare(t, true, t, table.revision));
    expect(late).toMatchObject({ code: "REPLICA_LOCKED", verdict: "stop-table" });
    expect(await l.rows(t).catch(() => "gone")).toBe("gone");
    const anew = changed(t, { oid: 77 });
    await create(anew);
    expect(await l.rows(anew)).toEqual([]);
  });

  test("what somebody has done already is not done again; columns of the replica's own stay", async () => {
    const { lab: l, replica, alter } = await filled();
    const sql = l.nameOf(t);
    await l.sql(`ALTER TABLE ${sql} ADD COLUMN own ${l.textType} DEFAULT 'mine'`);
    await l.sql(`ALTER TABLE ${sql} RENAME COLUMN ${l.quote("a")} TO ${l.quote("z")}`);
    await l.sql(`ALTER TABLE ${sql} DROP COLUMN ${l.quote("b")}`);
    const to = changed(t, { columns: [id, { ...a, name: "z" }], key: ["id"] });
    await alter(to);
    await put(replica, to, { id: 3, z: "new" });
    await alter(changed(to, { columns: [id, { ...a, name: "z", nullable: false }], key: ["z"] }));
    expect((await l.sql(`SELECT own FROM ${sql}`)).map((row) => row["own"])).toEqual(["mine", "mine", "mine"]);
  });

  test("a view of the replica's own on a dropped column stops the table, and it goes on without", async () => {
    if (kind !== "postgres" && kind !== "sqlite") return; // views are texts there
    const { lab: l, alter } = await filled();
    await l.sql(`CREATE VIEW seen AS SELECT a FROM ${l.nameOf(t)}`);
    const fewer = changed(t, { columns: [id, b] });
    const refused = await failure(alter(fewer));
    expect(refused).toMatchObject({ code: "REPLICA_TABLE_IN_USE", verdict: "stop-table" });
    await l.sql("DROP VIEW seen");
    await alter(fewer);
    expect(await l.rows(fewer)).toHaveLength(2);
  });

  test("a table that is called otherwise since its name was read is not made anew under that one", async () => {
    const { lab: l, replica, change, remembered } = await filled();
    const from = await remembered(t.oid);
    const named = { schema: "public", table: "cascade moving 7" };
    await change({ kind: "move", from, named });
    expect(await failure(replica.prepare(t, true, from.named))).toMatchObject({ code: "REPLICA_LOCKED", verdict: "stop-table" });
    expect((await l.sql(`SELECT 1 FROM ${l.nameOf(t)}`).catch(() => "no table")) as unknown).toBe("no table");
    await replica.prepare(t, true, named);
  });

  test("an older Cascade's table is taken as it is, if it fits; and one that is gone is told", async () => {
    const l = await lab();
    const replica = await l.open();
    await replica.prepare(t);
    const { create, change, remembered } = tableChanger(l, replica);
    await create(t, false);
    const from = await remembered(t.oid);
    const otherwise = new CascadeError({ code: "REPLICA_NAME_TAKEN", verdict: "stop-table", message: "m", advice: "a" });
    expect((await failure(change({ kind: "release", from, otherwise }))).code).toBe("REPLICA_NAME_TAKEN");
    await l.sql(`DROP TABLE ${l.nameOf(t)}`);
    await change({ kind: "release", from, otherwise });
    expect(await replica.remembered()).toEqual([]);
    expect((await failure(create(t, false))).code).toBe("REPLICA_TABLE_LOST");
  });
});
