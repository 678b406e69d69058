import { afterEach, describe, expect, test } from "bun:test";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { cleanUpAll, see } from "./consumer-lab.ts";
import { REPLICA_KINDS, type Row } from "./replica-labs.ts";
import { type Router, type RoutingLab, routingLab } from "./routing-lab.ts";
import { changed } from "./table-changer.ts";

/** A whole router follows the schemas of main-db, with a real Kafka and a real replica; the test stands for cdc. */

afterEach(cleanUpAll);

const one = tableSchema("t", { id: "integer", a: "text" });
const [id, a] = one.columns as readonly [ColumnSchema, ColumnSchema];
const n = columnSchema("n", "integer", { attnum: 3, missing: 7 });
const two = changed(one, { columns: [id, { ...a, name: "z" }, n] });

async function rows(l: RoutingLab, schema: TableSchema): Promise<string> {
  const found = await l.replica.rows(schema).catch(() => null);
  return found === null ? "no table" : JSON.stringify(comparableRows(found));
}

/** Whether the table is there and has the column. */
const has = async (l: RoutingLab, schema: TableSchema, column: string): Promise<boolean> =>
  l.replica.sql(`SELECT ${l.replica.quote(column)} FROM ${l.replica.nameOf(schema)}`).then(
    ([row]) => row === undefined || row[column] !== column, // SQLite takes a lone name that is no column for a text
    () => false,
  );

const text = (...given: readonly Row[]) => JSON.stringify(comparableRows(given));

/** What /status advises about the tables that are held. */
const adviceOf = (router: Router): string => {
  const { tables } = router.status() as { readonly tables: readonly { readonly error: { readonly advice: string } | null }[] };
  return tables.map(({ error }) => error?.advice ?? "").join();
};

/** Waits until the table holds exactly these rows. */
async function seeRows(l: RoutingLab, schema: TableSchema, ...given: readonly Row[]): Promise<void> {
  const wanted = text(...given);
  let found = "";
  await see(async () => {
    found = await rows(l, schema);
    return found === wanted;
  }, 15_000).catch(() => expect(found).toBe(wanted));
}

describe.each(REPLICA_KINDS)("a router of %s", (kind) => {
  test("makes announced tables, brings them to a row's schema, and follows what comes without rows", async () => {
    const l = await routingLab(kind);
    await l.announce(one, 1n);
    const router = l.router();
    await seeRows(l, one);
    await l.publish(one, { at: 2n, after: { id: 1, a: "x" } });
    await l.announce(two, 3n);
    await l.publish(two, { at: 4n, after: { id: 2, z: "y", n: 8 } });
    await seeRows(l, two, { id: 1, z: "x", n: 7 }, { id: 2, z: "y", n: 8 });
    // Without rows: a column, a new name, a table that is gone and another in its place.
    const three = changed(two, { columns: [...two.columns, columnSchema("q", "boolean", { attnum: 4, missing: true })] });
    await l.announce(three, 5n);
    await see(() => has(l, three, "q"));
    const renamed = changed(three, { table: "u" });
    await l.announce(renamed, 6n);
    await see(() => has(l, renamed, "q"));
    expect(await rows(l, three)).toBe("no table");
    const other = changed(one, { oid: 17_000 });
    await l.announce(other, 7n);
    await seeRows(l, other);
    await l.dropped(renamed, 8n);
    await see(async () => (await rows(l, renamed)) === "no table");
    await seeRows(l, other);
    expect(router.lines.filter((line) => /^(?:error|life)/.test(line))).toEqual([]);
    expect(router.lines).toContain("info public.t: renamed column a to z, added column n");
    const { tables } = router.status() as { tables: readonly object[] };
    const schema = { id: other.id, changes: 5 };
    expect(tables).toContainEqual({ table: "public.t", state: "live", awaitsCopy: false, error: null, schema, heldKeys: 0 });
  }, 60_000);

  test("a table dropped and made anew under its name is emptied before the first row of the new one", async () => {
    const l = await routingLab(kind);
    const other = changed(two, { oid: 17_000 });
    await l.announce(one, 1n);
    await l.publish(one, { at: 2n, after: { id: 1, a: "x" } });
    await l.dropped(one, 3n);
    await l.announce(other, 3n);
    await l.publish(other, { at: 4n, after: { id: 5, z: "new", n: 1 } });
    l.router();
    await seeRows(l, other, { id: 5, z: "new", n: 1 });
  }, 60_000);

  test("rows of a table that swaps its name with another come in order, whichever topic is read first", async () => {
    const l = await routingLab(kind);
    const other = changed(tableSchema("s", { id: "integer", a: "text" }), { oid: 17_000 });
    const [oneAsS, otherAsT] = [changed(one, { table: "s" }), changed(other, { table: "t" })];
    await l.announce(one, 1n);
    await l.announce(other, 1n);
    // Twice there and back again, each row of `one` updated under every name it has.
    let at = 2n;
    const update = async (schema: TableSchema, key: number, value: string, op: "c" | "u" = "u") =>
      l.publish(schema, { at: at++, op, before: op === "u" ? { id: key } : null, after: { id: key, a: value } });
    await update(one, 1, "t0", "c");
    await update(other, 9, "s0", "c");
    for (let round = 1; round <= 3; round++) {
      await l.announce(oneAsS, at++);
      await l.announce(otherAsT, at++);
      for (let i = 0; i < 5; i++) await update(oneAsS, 1, `s${round}.${i}`);
      await update(otherAsT, 9, `t${round}`);
      await l.announce(one, at++);
      await l.announce(other, at++);
      for (let i = 0; i < 5; i++) await update(one, 1, `t${round}.${i}`);
      await update(other, 9, `back${round}`);
    }
    // One process has a DuckDB file.
    const routers = [1, 2].slice(kind === "duckdb" ? 1 : 0).map(() => l.router({ ROUTER_BATCH_ROWS: "2" }));
    await seeRows(l, one, { id: 1, a: "t3.4" });
    await seeRows(l, other, { id: 9, a: "back3" });
    await l.announce(oneAsS, at++);
    await l.announce(otherAsT, at++);
    await seeRows(l, oneAsS, { id: 1, a: "t3.4" });
    await seeRows(l, otherAsT, { id: 9, a: "back3" });
    expect(routers.flatMap(({ lines }) => lines).filter((line) => /^(?:error|life)/.test(line))).toEqual([]);
  }, 90_000);

  test("rows of another partition that were written under an older schema still apply right", async () => {
    const l = await routingLab(kind);
    await l.announce(one, 1n, { partitions: 2 });
    const strict = changed(two, { columns: [id, { ...a, name: "z", nullable: false }, n] });
    await l.publish(one, { at: 2n, after: { id: 1, a: "x" }, partition: 0 });
    await l.announce(strict, 10n);
    await l.publish(strict, { at: 11n, after: { id: 2, z: "y", n: 1 }, partition: 0 });
    const router = l.router();
    await seeRows(l, strict, { id: 1, z: "x", n: 7 }, { id: 2, z: "y", n: 1 });
    await l.publish(
      one,
      { at: 3n, after: { id: 3, a: null }, partition: 1 },
      { at: 4n, after: { id: 4, a: "q" }, partition: 1 },
      { at: 5n, op: "u", before: { id: 4 }, after: { id: 4, a: "r" }, partition: 1 },
      { at: 6n, op: "u", before: { id: 3 }, after: { id: 6, a: "moved" }, partition: 1 },
      { at: 7n, op: "d", before: { id: 6 }, partition: 1 },
      { at: 8n, after: { id: 5, a: null }, partition: 1 },
    );
    await l.publish(strict, { at: 12n, after: { id: 7, z: "s", n: null }, partition: 1 });
    await seeRows(
      l,
      strict,
      ...[
        { id: 1, z: "x", n: 7 },
        { id: 2, z: "y", n: 1 },
        { id: 4, z: "r", n: 7 },
        { id: 5, z: null, n: 7 },
        { id: 7, z: "s", n: null },
      ],
    );
    expect(router.lines.filter((line) => /^(?:error|life)/.test(line))).toEqual([]);
  }, 60_000);

  test("a NULL that main-db took before its schema said so is taken", async () => {
    const l = await routingLab(kind);
    const strict = changed(one, { columns: [id, { ...a, nullable: false }] });
    await l.announce(strict, 1n);
    await l.publish(strict, { at: 2n, after: { id: 1, a: "x" } }, { at: 3n, after: { id: 2, a: null } });
    l.router();
    await seeRows(l, strict, { id: 1, a: "x" }, { id: 2, a: null });
  }, 60_000);

  test("events for other replicas are passed by", async () => {
    const l = await routingLab(kind);
    await l.announce(one, 1n);
    await l.publish(
      one,
      { at: 2n, after: { id: 1, a: "all" } },
      { at: 3n, after: { id: 2, a: "mine" }, marks: { replica: "mine" } },
      { at: 4n, after: { id: 3, a: "theirs" }, marks: { replica: "theirs" } },
      { at: 5n, after: { id: 4, a: "not mine" }, marks: { notReplica: "mine" } },
      { at: 6n, after: { id: 5, a: "not theirs" }, marks: { notReplica: "theirs" } },
    );
    l.router();
    await seeRows(l, one, { id: 1, a: "all" }, { id: 2, a: "mine" }, { id: 5, a: "not theirs" });
  }, 60_000);

  test("additive and off stop the table with the SQL that mends it, and go on when that was run", async () => {
    for (const policy of ["additive", "off"]) {
      const l = await routingLab(kind);
      const renamed = changed(one, { columns: [id, { ...a, name: "z" }] });
      await l.announce(one, 1n);
      await l.publish(one, { at: 2n, after: { id: 1, a: "x" } });
      const router = l.router({ ROUTER_DDL: policy });
      await seeRows(l, one, { id: 1, a: "x" });
      await l.announce(renamed, 3n);
      await l.publish(renamed, { at: 4n, after: { id: 2, z: "y" } });
      const tells = (cure: string) => see(() => adviceOf(router).includes(cure));
      const quoted = l.replica.quote;
      await tells(`RENAME COLUMN ${quoted("a")} TO ${quoted("z")}`);
      await l.replica.sql(`ALTER TABLE ${l.replica.nameOf(one)} RENAME COLUMN a TO z`);
      await seeRows(l, renamed, { id: 1, z: "x" }, { id: 2, z: "y" });
      const moved = changed(renamed, { table: "u" });
      await l.announce(moved, 5n);
      await l.publish(moved, { at: 6n, after: { id: 3, z: "u" } });
      await tells("rename the replica's table of public.t");
      await l.replica.sql(`ALTER TABLE ${l.replica.nameOf(one)} RENAME TO u`);
      await seeRows(l, moved, { id: 1, z: "x" }, { id: 2, z: "y" }, { id: 3, z: "u" });
      const more = changed(moved, { columns: [...moved.columns, n] });
      await l.announce(more, 7n);
      if (policy === "additive") await see(() => has(l, more, "n"));
      else await tells(`ADD COLUMN ${quoted("n")}`);
      await router.stop();
    }
  }, 90_000);
});
