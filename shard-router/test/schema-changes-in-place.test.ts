import { afterEach, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync } from "node:fs";
import { CascadeError, FencedError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { DuckDBInstance } from "@duckdb/node-api";
import type { RememberedTable, Replica } from "../src/replica.ts";
import { allowedSteps, planChange } from "../src/schema-change.ts";
import { columnsOf, failure, put } from "./changed-tables.ts";
import { after, isMysql, REPLICA_KINDS, type ReplicaLab, replicaLab, workFor } from "./replica-labs.ts";
import { changed, changer } from "./table-changer.ts";

/** What changes mean on engines that do them in their own ways: all at once, made anew, or not at all. */

const labs: ReplicaLab[] = [];
afterEach(async () => {
  for (const lab of labs.splice(0)) {
    if (lab.dialect === "duckdb") await readAfterCrash(lab.url.slice("duckdb://".length));
    await lab.close();
  }
});

/** DuckDB replays its log: what a killed process leaves must open. */
async function readAfterCrash(path: string): Promise<void> {
  const left = `${path}.left`;
  copyFileSync(path, left);
  if (existsSync(`${path}.wal`)) copyFileSync(`${path}.wal`, `${left}.wal`);
  const instance = await DuckDBInstance.create(left);
  instance.closeSync();
}

const KINDS = REPLICA_KINDS.filter((kind) => isMysql(kind) || kind === "duckdb");

describe.each(KINDS)("%s replica", (kind) => {
  const start = async (setup = "SELECT 1") => {
    const lab = await replicaLab(kind);
    labs.push(lab);
    await lab.sql(setup);
    return changer(lab);
  };
  const expectRows = async (lab: ReplicaLab, schema: TableSchema, rows: readonly Readonly<Record<string, unknown>>[]) =>
    expect(comparableRows(await lab.rows(schema))).toEqual(comparableRows(rows));
  const one = tableSchema("t", { id: "integer", a: "text", b: "text", n: "integer" });
  const first = { id: 1, a: "a", b: "b", n: 1 };
  /** The type of each column, as the engine says it. */
  const shape = async (replica: Replica, schema: TableSchema) =>
    (await replica.prepare(schema)).columns.map(({ name, type }) => `${name} ${type.toLowerCase()}`);
  /** It takes its schema's rows as one that was made for it does. */
  const expectMade = async (replica: Replica, schema: TableSchema) =>
    expect(await shape(replica, schema)).toEqual(
      await shape(replica, changed(schema, { table: `made_${schema.id}`, oid: schema.oid + 1_000 })),
    );

  test("names go round, one column takes another's place, types and nullability change, all in one change", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first);
    const columns = columnsOf(one, {
      id: { type: "bigint", typeOid: 20 },
      a: { name: "b", nullable: false },
      b: { name: "a", type: "character varying(10)", typeOid: 1043 },
    });
    const two = changed(one, {
      columns: [...columns, columnSchema("n", "numeric(6,2)", { attnum: 5, nullable: false, missing: "1.25" })],
    });
    await alter(two);
    await expectRows(lab, two, [{ id: 1, b: "a", a: "b", n: "1.25" }]);
    await put(replica, two, { id: "9007199254740993", b: "x", a: "y", n: "2.00" });
    await expectMade(replica, two);
    // And back again, with what was dropped: another column of its old name.
    const three = changed(one, {
      columns: [...columnsOf(one, { id: {}, a: {}, b: {} }), columnSchema("n", "integer", { attnum: 6 })],
    });
    await alter(
      changed(three, { columns: three.columns.map((c) => (c.name === "id" ? { ...c, type: "bigint", typeOid: 20 } : c)) }),
    );
    await expectRows(lab, three, [
      { id: 1, a: "a", b: "b", n: null },
      { id: "9007199254740993", a: "x", b: "y", n: null },
    ]);
  });

  test("the key changes: another column, more columns, none, and one again", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first, { ...first, id: 2, a: "A" });
    const text = changed(one, {
      key: ["a"],
      columns: columnsOf(one, { id: { nullable: true }, a: { nullable: false }, b: {}, n: {} }),
    });
    await alter(text);
    await put(replica, text, { ...first, id: null, a: "á" });
    await expectMade(replica, text);
    const both = changed(text, { key: ["a", "b"], columns: columnsOf(text, { id: {}, a: {}, b: { nullable: false }, n: {} }) });
    await alter(both);
    await put(replica, both, { ...first, b: "b " });
    await expectMade(replica, both);
    const none = changed(one, { key: [], identity: "full", columns: columnsOf(both, { id: {}, a: {}, b: {}, n: {} }) });
    await alter(none);
    await put(replica, none, { ...first, a: "z" }, { ...first, a: "z" });
    await expectRows(lab, none, [
      first,
      { ...first, id: 2, a: "A" },
      { ...first, id: null, a: "á" },
      { ...first, b: "b " },
      { ...first, a: "z" },
      { ...first, a: "z" },
    ]);
    await expectMade(replica, none);
  });

  test("a key whose values are written anew is empty until its rows come again", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first);
    const uuid = changed(one, {
      key: ["k"],
      columns: [...columnsOf(one, { a: {}, b: {} }), columnSchema("k", "uuid", { attnum: 9, nullable: false })],
    });
    expect(await failure(alter(uuid))).toMatchObject({ code: "REPLICA_CHANGE_REFUSED", verdict: "stop-table" });
    await expectRows(lab, one, [first]);
    await alter(uuid, { rewritten: true, empties: true });
    await expectRows(lab, uuid, []);
    await put(replica, uuid, { a: "a", b: "b", k: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" });
    await expectMade(replica, uuid);
  });

  test("a NOT NULL column without a value for older rows takes NULL; older rows never get the engine's idea of a default", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first);
    const more = changed(one, {
      columns: [
        ...one.columns,
        columnSchema("m", "integer", { attnum: 5, nullable: false }),
        columnSchema("e", "bytea", { attnum: 6, missing: "AP8=" }),
      ],
    });
    await alter(more, { rewritten: true });
    await expectRows(lab, changed(more, { columns: more.columns.slice(0, 5) }), [{ ...first, m: null }]);
    const bytes = await lab.sql(`SELECT hex(e) AS e FROM ${lab.nameOf(more)}`);
    expect(bytes).toEqual([{ e: "00FF" }]);
    await put(replica, more, { ...first, id: 2, m: 5, e: "" });
  });

  test("tables take new names, each other's and one of another schema; a name that is taken is refused", async () => {
    const { lab, replica, create, alter, change, remembered } = await start();
    const [a, b] = [changed(one, { table: "a", oid: 1 }), changed(one, { table: "b", oid: 2 })];
    await create(a);
    await create(b);
    await put(replica, a, { ...first, a: "of a" });
    await put(replica, b, { ...first, a: "of b" });
    const [toB, toA] = [changed(a, { table: "b" }), changed(b, { table: "a" })];
    expect((await failure(alter(toB))).code).toBe("REPLICA_NAME_TAKEN");
    const between = { schema: "public", table: "cascade moving 1" };
    await change({ kind: "move", from: await remembered(1), named: between });
    expect((await remembered(1)).named).toEqual(between);
    await alter(toA);
    await alter(toB);
    await expectRows(lab, toB, [{ ...first, a: "of a" }]);
    await expectRows(lab, toA, [{ ...first, a: "of b" }]);
    const elsewhere = changed(toA, { schema: "app", table: "x y" });
    await alter(elsewhere);
    await expectRows(lab, elsewhere, [{ ...first, a: "of b" }]);
    // Its old name is free for another.
    await create(changed(a, { oid: 3, table: "a" }));
    await lab.sql(`CREATE TABLE ${lab.nameOf(changed(a, { table: "own" }))} (id integer)`);
    expect((await failure(alter(changed(toB, { table: "own" })))).code).toBe("REPLICA_NAME_TAKEN");
    await put(replica, toB, { ...first, id: 5 });
  });

  test("dropped and made again under the same name, released, and taken over from an older Cascade", async () => {
    const { lab, replica, create, change, remembered } = await start();
    await put(replica, one, first); // as an older Cascade did
    expect(await replica.remembered()).toEqual([]);
    await create(one);
    await expectRows(lab, one, [first]);
    expect(await failure(create(one))).toBeInstanceOf(FencedError);
    const again = changed(one, { oid: 5 });
    expect(await failure(create(again))).toBeInstanceOf(FencedError);
    await change({ kind: "drop", from: await remembered(one.oid) });
    await create(again);
    await expectRows(lab, again, []);
    const otherwise = new CascadeError({
      code: "REPLICA_NAME_TAKEN",
      verdict: "stop-table",
      message: "is there",
      advice: "drop it",
    });
    expect(await failure(change({ kind: "release", from: await remembered(5), otherwise }))).toBe(otherwise);
    await lab.sql(`DROP TABLE ${lab.nameOf(again)}`);
    await change({ kind: "release", from: await remembered(5), otherwise });
    expect(await replica.remembered()).toEqual([]);
  });

  test("who knows the table as it was applies nothing to it, and changes nothing", async () => {
    const { lab, replica, create, alter, remembered } = await start();
    await create(one);
    const old = await remembered(one.oid);
    const table = await replica.prepare(one);
    const two = changed(one, { columns: columnsOf(one, { id: {}, a: { name: "b" }, b: { name: "a" }, n: {} }) });
    const partition = { topic: "cascade.public.t", partition: 0 };
    const apply = async (tables: readonly RememberedTable[]) => {
      const work = workFor(replica, table, [{ kind: "put", row: first }]);
      await replica.apply({ ...work, tables }, { partition, from: null, to: after(null) });
    };
    await alter(two);
    expect(await failure(apply([old]))).toBeInstanceOf(FencedError);
    expect(await failure(alter(two, { from: old }))).toBeInstanceOf(FencedError);
    await expectRows(lab, two, []);
    expect(await replica.progress(partition)).toBeNull();
    await apply([await remembered(one.oid)]);
  });

  test("a change that main-db's rows do not need leaves what the policy does not allow, and says what is missing", async () => {
    const { lab, replica, create, alter, remembered } = await start();
    await create(one);
    await put(replica, one, first);
    const two = changed(one, { columns: [...columnsOf(one, { id: {}, a: {} }), columnSchema("m", "integer", { attnum: 5 })] });
    await alter(two, { steps: allowedSteps("additive", planChange(one, two)) });
    expect((await remembered(one.oid)).schema).toEqual(two);
    await expectRows(lab, changed(one, { columns: [...one.columns, columnSchema("m", "integer", { attnum: 5 })] }), [
      { ...first, m: null },
    ]);
    const three = changed(two, { columns: columnsOf(two, { id: {}, a: { name: "c" }, m: {} }) });
    for (const policy of ["off", "additive"] as const) {
      const refused = await failure(alter(three, { steps: allowedSteps(policy, planChange(two, three)) }));
      expect(refused).toMatchObject({ code: "REPLICA_TABLE_MISMATCH", verdict: "stop-table" });
      expect((await remembered(one.oid)).schema).toEqual(two);
    }
    await alter(three);
    await put(replica, three, { id: 2, c: "c", m: 2 });
  });

  test("what people did by hand already is not done again", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first);
    const name = lab.nameOf(one);
    await lab.sql(`ALTER TABLE ${name} DROP COLUMN b`);
    await lab.sql(`ALTER TABLE ${name} RENAME COLUMN a TO c`);
    await lab.sql(`ALTER TABLE ${name} ADD COLUMN m bigint`);
    const two = changed(one, {
      columns: [...columnsOf(one, { id: {}, a: { name: "c" }, n: {} }), columnSchema("m", "bigint", { attnum: 5 })],
    });
    await alter(two);
    await expectRows(lab, two, [{ id: 1, c: "a", n: 1, m: null }]);
    await expectMade(replica, two);
  });

  test("columns, indexes and views of the user's own stay, and go with a column of theirs", async () => {
    const { lab, replica, create, alter } = await start();
    await create(one);
    await put(replica, one, first);
    const name = lab.nameOf(one);
    await lab.sql(`ALTER TABLE ${name} ADD COLUMN own integer DEFAULT 7`);
    await lab.sql(`CREATE INDEX own_n ON ${name} (n)`);
    await lab.sql(`CREATE UNIQUE INDEX own_own ON ${name} (id, own)`);
    await lab.sql(`CREATE VIEW own_view AS SELECT id, own FROM ${name}`);
    const two = changed(one, {
      columns: [
        ...columnsOf(one, { id: { name: "key" }, a: {}, n: { type: "bigint", typeOid: 20 } }),
        columnSchema("own2", "text", { attnum: 5, missing: "x" }),
      ],
      key: ["key"],
    });
    await alter(two);
    await put(replica, two, { key: 2, a: "b", n: "5", own2: null });
    const own = { name: "own", attnum: 9 } as ColumnSchema;
    await expectRows(lab, changed(two, { columns: [...two.columns, own] }), [
      { key: 1, a: "a", n: "1", own2: "x", own: 7 },
      { key: 2, a: "b", n: "5", own2: null, own: 7 },
    ]);
    const indexes =
      kind === "duckdb"
        ? await lab.sql("SELECT index_name AS name FROM duckdb_indexes() ORDER BY 1")
        : await lab.sql(
            "SELECT DISTINCT INDEX_NAME AS name FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't' AND INDEX_NAME <> 'PRIMARY' ORDER BY 1",
          );
    expect(indexes.map((row) => row["name"])).toEqual(["own_n", "own_own"]);
    const three = changed(two, { columns: columnsOf(two, { key: {}, a: {} }) });
    await alter(three);
    await put(replica, three, { key: 3, a: "c" });
  });

  test("what of the user's own is in the way is named, with the cure", async () => {
    const { lab, create, alter } = await start();
    const generated = kind === "duckdb" ? "AS (n + 1)" : "AS (n + 1) STORED";
    await lab.sql(
      `CREATE TABLE ${lab.nameOf(one)} (id integer PRIMARY KEY, a ${lab.textType}, b ${lab.textType}, n integer, g integer ${generated})`,
    );
    await create(one);
    const two = changed(one, { columns: columnsOf(one, { id: {}, a: {}, b: {} }) });
    const refused = await failure(alter(two));
    expect(refused).toMatchObject({ code: "REPLICA_CHANGE_REFUSED", verdict: "stop-table" });
    expect(refused.message + refused.advice).toContain("generated");
    if (kind === "duckdb") return;
    await lab.sql("ALTER TABLE t DROP COLUMN g");
    await alter(two);
  });
});

test.each(KINDS)("%s: tables that an older Cascade has made are taken over", async (kind) => {
  const lab = await replicaLab(kind);
  labs.push(lab);
  const one = tableSchema("t", { id: "integer", a: "text" });
  const name = isMysql(kind) ? "varchar(64) NOT NULL" : "VARCHAR NOT NULL";
  await lab.sql(
    isMysql(kind)
      ? `CREATE TABLE cascade_tables (name ${name} PRIMARY KEY, source_schema ${name}, source_table ${name})`
      : `CREATE TABLE main.cascade_tables (schema_name ${name}, table_name ${name}, source_schema ${name}, source_table ${name}, PRIMARY KEY (schema_name, table_name))`,
  );
  await lab.sql(
    isMysql(kind)
      ? "INSERT INTO cascade_tables VALUES ('t', 'public', 't')"
      : "INSERT INTO main.cascade_tables VALUES ('public', 't', 'public', 't')",
  );
  await lab.sql(`CREATE TABLE ${lab.nameOf(one)} (id integer PRIMARY KEY, a ${lab.textType})`);
  await lab.sql(`INSERT INTO ${lab.nameOf(one)} VALUES (1, 'a')`);
  const { replica, create, alter, remembered } = await changer(lab);
  await changer(lab); // and found upgraded
  expect(await replica.remembered()).toEqual([]);
  await create(one);
  const two = changed(one, { columns: columnsOf(one, { id: {}, a: { name: "z" } }) });
  await alter(two);
  expect(await remembered(one.oid)).toMatchObject({ schema: two, revision: 2 });
  expect(comparableRows(await lab.rows(two))).toEqual(comparableRows([{ id: 1, z: "a" }]));
});
