import { afterEach, expect, test } from "bun:test";
import type { ChangeEvent, OwnedEvent } from "@cascade/shared/change-event";
import { oidOf } from "../src/schema-history.ts";
import { DdlLab } from "./ddl-lab.ts";
import { cleanUp, type Lab, lab } from "./source-lab.ts";

afterEach(cleanUp);

/**
 * Random schema changes and rows, in transactions with savepoints, read by a cdc that dies at any place, with changes made while it is
 * down: every row comes under the schema that main-db's own catalog showed in the row's transaction, at every delivery.
 */

interface Written {
  readonly table: string;
  readonly oid: number;
  readonly columns: readonly string[];
}

const SHAPE = `
  SELECT c.oid::text AS oid, c.relname::text AS "table", array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS columns
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE c.relname = '<table>' AND c.relnamespace = 'public'::regnamespace GROUP BY c.oid`;

class RandomDdl {
  readonly written = new Map<string, Written>();
  readonly #lab: Lab;
  #seed: number;
  #tables = ["a", "b", "c"];
  #names = 0;
  #markers = 0;

  constructor(own: Lab, seed: number) {
    this.#lab = own;
    this.#seed = seed;
  }

  /** Below `end`. */
  next(end: number): number {
    // A linear congruential generator: the same run for the same seed.
    this.#seed = (Math.imul(this.#seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#seed / 2 ** 32) * end);
  }

  #one<T>(list: readonly T[]): T {
    return list[this.next(list.length)] as T;
  }

  async transaction(): Promise<void> {
    const [tables, written] = [[...this.#tables], new Map<string, Written>()];
    await this.#lab.sql("BEGIN");
    for (let n = this.next(6) + 1; n > 0; n--) await this.#step(written);
    if (this.next(8) === 0) {
      await this.#lab.sql("ROLLBACK");
      this.#tables = tables;
      return;
    }
    await this.#lab.sql("COMMIT");
    for (const [marker, row] of written) this.written.set(marker, row);
  }

  /** One statement, in a savepoint that is released, rolled back, or none. */
  async #step(written: Map<string, Written>): Promise<void> {
    const how = this.next(6);
    const tables = [...this.#tables];
    const inSavepoint = new Map<string, Written>();
    if (how < 2) await this.#lab.sql("SAVEPOINT s");
    if (this.next(2) === 0) await this.#insert(inSavepoint);
    else await this.#change();
    if (how === 0) {
      await this.#lab.sql("ROLLBACK TO s");
      this.#tables = tables;
      return;
    }
    if (how === 1) await this.#lab.sql("RELEASE s");
    for (const [marker, row] of inSavepoint) written.set(marker, row);
  }

  async #insert(written: Map<string, Written>): Promise<void> {
    const table = this.#one(this.#tables);
    const [shape] = (await this.#lab.sql(SHAPE.replace("<table>", table))).rows as { oid: string; columns: string[] }[];
    if (shape === undefined) throw new Error(`no table ${table}`);
    const marker = String(++this.#markers);
    await this.#lab.sql(`INSERT INTO ${table} (id) VALUES (${marker})`);
    written.set(marker, { table, oid: Number(shape.oid), columns: shape.columns });
    if (this.next(3) === 0) await this.#lab.sql(`UPDATE ${table} SET id = id WHERE id = ${marker}`);
    if (this.next(4) === 0) await this.#lab.sql(`DELETE FROM ${table} WHERE id = ${marker}`);
  }

  async #change(): Promise<void> {
    const at = this.next(this.#tables.length);
    const table = this.#tables[at] as string;
    const [shape] = (await this.#lab.sql(SHAPE.replace("<table>", table))).rows as { columns: string[] }[];
    const column = this.#one(shape?.columns ?? []).split(" ")[0] as string;
    const fresh = `n${++this.#names}`;
    const type = this.#one(["int", "bigint", "text", "numeric(8,2)", "mood", "whole"]);
    const alter = (what: string) => this.#lab.sql(`ALTER TABLE ${table} ${what}`);
    switch (column === "id" ? this.next(5) : this.next(10)) {
      case 0:
        return void (await alter(`ADD ${fresh} ${type}`));
      case 1:
        return void (await alter(`ADD ${fresh} int NOT NULL DEFAULT ${this.next(9)}`));
      case 2:
        this.#tables[at] = fresh;
        return void (await alter(`RENAME TO ${fresh}`));
      case 3:
        await this.#lab.sql(`DROP TABLE ${table}; CREATE TABLE ${table} (id int PRIMARY KEY, ${fresh} ${type})`);
        return;
      case 4: {
        const other = this.#one(this.#tables.filter((name) => name !== table));
        await this.#lab.sql(
          `ALTER TABLE ${table} RENAME TO x; ALTER TABLE ${other} RENAME TO ${table}; ALTER TABLE x RENAME TO ${other}`,
        );
        return;
      }
      case 5:
      case 6:
        return void (await alter(`DROP ${column}`));
      case 7:
        return void (await alter(`RENAME ${column} TO ${fresh}`));
      case 8:
        return void (await alter(`ALTER ${column} TYPE text USING ${column}::text`).catch((error) => this.#failed(error)));
      default:
        return void (await alter(`REPLICA IDENTITY ${this.#one(["FULL", "DEFAULT"])}`));
    }
  }

  #failed(error: unknown): never {
    throw error;
  }
}

const place = ({ transaction, ordinal }: ChangeEvent) => `${transaction.commitLsn}/${ordinal}`;
const idOf = ({ after, before }: OwnedEvent): string => String((JSON.parse(after ?? before ?? "{}") as { id: number }).id);

/** Every event against what main-db showed when it was written, and every delivery of it against the first. */
function check(l: DdlLab, random: RandomDdl): void {
  const first = new Map<string, string>();
  const newest = new Map<number, string>();
  for (const one of l.log) {
    if ("said" in one) {
      newest.set(oidOf(one.said), one.said.kind === "schema" ? one.said.schema.id : "dropped");
      continue;
    }
    const { event } = one;
    const told = JSON.stringify([event.table, event.op, event.key, event.before, event.after]);
    const before = first.get(place(event));
    if (before !== undefined) {
      expect(told).toBe(before);
      continue;
    }
    first.set(place(event), told);
    const schema = l.schemaOf(event);
    expect(newest.get(schema.oid)).toBe(schema.id);
    const row = random.written.get(idOf(event)) as Written;
    expect([event.table.table, schema.oid]).toEqual([row.table, row.oid]);
    expect(schema.columns.map(({ name }) => name)).toEqual(row.columns.map((column) => column.split(" ")[0] as string));
    if (event.op === "c") expect(Object.keys(JSON.parse(event.after ?? ""))).toEqual(schema.columns.map(({ name }) => name));
  }
  const inserted = new Set(l.events.filter(({ op }) => op === "c").map(idOf));
  expect(inserted.size).toBe(random.written.size);
}

const SEEDS = Number(process.env["DDL_SEEDS"] ?? 4);
const FIRST = Number(process.env["DDL_SEED"] ?? 1);

test.each(Array.from({ length: SEEDS }, (_, n) => FIRST + n))(
  "random schema changes, rows and deaths (seed %d)",
  async (seed) => {
    const own = await lab(`
    CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN whole AS int; CREATE TABLE a (id int PRIMARY KEY, x text); CREATE TABLE b (id int PRIMARY KEY, x text);
    CREATE TABLE c (id int PRIMARY KEY, n whole DEFAULT 3); CREATE TABLE the_end (id int PRIMARY KEY)`);
    const random = new RandomDdl(own, seed * 7919);
    const l = new DdlLab(own);
    for (let life = 0; life < 8; life++) {
      if (life > 0) for (let n = random.next(4); n > 0; n--) await random.transaction();
      const running = await l.life();
      for (let n = random.next(10) + 1; n > 0; n--) await random.transaction();
      await running.dieAfter(random.next(12) + 1, random.next(2) === 0);
    }
    const [end] = (await own.sql("INSERT INTO the_end VALUES (0) RETURNING tableoid::text AS oid")).rows as { oid: string }[];
    random.written.set("0", { table: "the_end", oid: Number(end?.oid), columns: ["id integer"] });
    await (await l.life()).until(() => l.events.some(({ table }) => table.table === "the_end"));
    check(l, random);
    // What was said last of each table is what the catalog has.
    const { rows } = await own.sql(
      "SELECT oid::text AS oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY oid",
    );
    const newest = new Map(l.said.map((said) => [oidOf(said), said.kind]));
    const live = [...newest].filter(([, kind]) => kind === "schema").map(([oid]) => oid);
    expect(live.toSorted((a, b) => a - b)).toEqual(rows.map(({ oid }) => Number(oid)));
  },
);
