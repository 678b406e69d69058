import { afterEach, expect, test } from "bun:test";
import { FencedError } from "@cascade/shared/errors";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { columnsOf, failure, put } from "./changed-tables.ts";
import { REPLICA_KINDS, type ReplicaLab, replicaLab } from "./replica-labs.ts";
import { changed, changer } from "./table-changer.ts";

/** DDL commits there: changes that a crash leaves half done, and two routers at once. */

const labs: ReplicaLab[] = [];
afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.close();
});

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: a change that a crash leaves at any point is ended, or made again",
  async () => {
    const one = tableSchema("t", { id: "integer", a: "text", b: "text", t: "time without time zone" });
    const row = { id: 1, a: "a", b: "b", t: "12:30:00.5" };
    const two = changed(one, {
      table: "u",
      columns: [
        ...columnsOf(one, { id: {}, a: { name: "b" }, b: { name: "a" }, t: { type: "text", typeOid: 25 } }),
        columnSchema("n", "integer", { attnum: 5, nullable: false, missing: 7 }),
      ],
    });
    const ended = [{ id: 1, b: "a", a: "b", t: "12:30:00.5", n: 7 }];
    // Statements of the change that are run before the crash: writing it down, computing, altering, renaming, dropping defaults.
    for (const [survived, isDone] of [
      [1, false],
      [2, false],
      [3, true],
      [4, true],
      [5, true],
    ] as const) {
      const lab = await replicaLab("mariadb");
      labs.push(lab);
      const { replica, create, alter, remembered } = await changer(lab);
      await create(one);
      await put(replica, one, row);
      const { revision } = await remembered(one.oid);
      const mark = "[cascade a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11]";
      const last = "ALTER TABLE `u` ALTER COLUMN `n` DROP DEFAULT";
      const pending = {
        kind: "alter",
        mark,
        schema: two,
        commitLsn: "0/1",
        ordinal: 0,
        named: { schema: "public", table: "u" },
        last: [last],
        isWhole: true,
      };
      const text = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin";
      const statements = [
        `UPDATE cascade_tables SET pending = '${JSON.stringify(pending).replaceAll("\\", "\\\\")}' WHERE oid = ${one.oid}`,
        `ALTER TABLE t ADD COLUMN \`cascade 4\` ${text} AS (TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM CAST(t AS CHAR)))) STORED`,
        `ALTER TABLE t RENAME COLUMN a TO b, RENAME COLUMN b TO a, DROP COLUMN t, CHANGE COLUMN \`cascade 4\` t ${text} NULL, ADD COLUMN n int NOT NULL DEFAULT (7), COMMENT = '${mark}'`,
        "RENAME TABLE t TO u",
        last,
      ];
      for (const statement of statements.slice(0, survived)) await lab.sql(statement);
      const other = await changer(lab); // another router, after the crash
      const found = await other.remembered(one.oid);
      expect([survived, found.schema.id]).toEqual([survived, (isDone ? two : one).id]);
      if (!isDone) await other.alter(two);
      expect(comparableRows(await lab.rows(two))).toEqual(comparableRows(ended));
      await put(other.replica, two, { id: 2, b: "x", a: "y", t: "z", n: 1 });
      expect(await failure(alter(one, { from: { ...found, revision: revision - 1 } }))).toBeInstanceOf(FencedError);
      const [table] = await lab.sql("SHOW CREATE TABLE u");
      expect(String(table?.["Create Table"])).not.toMatch(/`cascade 4`|DEFAULT 7/);
    }
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: a table whose name its file cannot have leaves nothing behind when it is altered and renamed at once",
  async () => {
    const lab = await replicaLab("mariadb");
    labs.push(lab);
    const one = tableSchema("It's a b", { id: "integer", a: "integer" });
    const { replica, create, alter } = await changer(lab);
    await create(one);
    await put(replica, one, { id: 1, a: 7 });
    const two = changed(one, { table: "u", columns: columnsOf(one, { id: {}, a: { type: "bigint", typeOid: 20 } }) });
    await alter(two);
    expect(comparableRows(await lab.rows(two))).toEqual(comparableRows([{ id: 1, a: 7 }]));
    expect((await lab.sql("SHOW TABLES")).flatMap((row) => Object.values(row)).sort()).not.toContain("It's a b");
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))("MariaDB: two routers that change one table at once change it once", async () => {
  const one = tableSchema("t", { id: "integer", a: "text", b: "text" });
  const lab = await replicaLab("mariadb");
  labs.push(lab);
  const [first, second] = [await changer(lab), await changer(lab)];
  await first.create(one);
  await put(first.replica, one, { id: 1, a: "a", b: "b" });
  const two = changed(one, { columns: columnsOf(one, { id: {}, a: { name: "b" }, b: { name: "a" } }) });
  const from = await first.remembered(one.oid);
  const outcomes = await Promise.allSettled([first.alter(two, { from }), second.alter(two, { from })]);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(await lab.rows(two)).toEqual([{ id: 1, b: "a", a: "b" }]);
});

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: a table that a crash left as it was made is known as whose it is, and goes with it",
  async () => {
    const lab = await replicaLab("mariadb");
    labs.push(lab);
    const one = tableSchema("t", { id: "integer", a: "text" });
    const first = await changer(lab);
    await first.create(one);
    const remembered = await first.remembered(one.oid);
    // As a crash leaves it between CREATE TABLE and the end of the change; and one before CREATE TABLE.
    await lab.sql(`UPDATE cascade_tables SET pending = '{"kind":"create"}' WHERE oid = ${one.oid}`);
    const after = await changer(lab);
    expect(await after.remembered(one.oid)).toEqual(remembered);
    await lab.sql(`UPDATE cascade_tables SET pending = '{"kind":"create"}' WHERE oid = ${one.oid}`);
    await lab.sql("DROP TABLE t");
    const again = await changer(lab);
    expect((await again.replica.remembered()).length).toBe(0);
    const other = changed(one, { oid: one.oid + 1 });
    await again.create(other);
    expect((await again.remembered(other.oid)).schema.id).toBe(other.id);
  },
);

test.if(REPLICA_KINDS.includes("mariadb"))(
  "MariaDB: a table that a killed router is still renaming is not made anew by the next one",
  async () => {
    const lab = await replicaLab("mariadb");
    labs.push(lab);
    const one = tableSchema("t", { id: "integer", a: "text" });
    await (await changer(lab)).create(one);
    await lab.sql(`UPDATE cascade_tables SET pending = '{"kind":"drop"}' WHERE oid = ${one.oid}`);
    await lab.sql("DROP TABLE t");
    const replica = await lab.open();
    expect(await failure(replica.prepare(one, true))).toMatchObject({ code: "REPLICA_LOCKED" });
    expect(await lab.sql("SHOW TABLES LIKE 't'")).toEqual([]);
  },
);
