import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { WireRow, WireValue } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { type ColumnSchema, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type pg from "pg";
import { conversionOf } from "../src/types/conversions.ts";
import { applier, event, isMysql, REPLICA_KINDS, type ReplicaLab, replicaLab } from "./replica-labs.ts";
import { openSourceDatabase, type SourceDatabase } from "./source-database.ts";
import { type Changer, changer } from "./table-changer.ts";

/**
 * Every change of a type into another: where it is certain what PostgreSQL makes of the values, an engine that converts them ends as a
 * fresh copy would be, or refuses; elsewhere it refuses, unless the rows come again.
 */

const NUMBERS = ["0", "7", "-12345", "32767"];
const DECIMALS = ["0", "1.50", "-0.25", "123.45"];
const TEXTS = ["", "abc", "a  ", "é😀'\\", "NULL"];
const TIMESTAMPS = ["2026-11-22 13:07:56.163", "infinity", "-infinity", "0044-03-15 12:00:00 BC", "2026-01-01 00:00:00"];
const TYPES: Readonly<Record<string, readonly string[]>> = {
  smallint: NUMBERS,
  integer: [...NUMBERS, "2147483647"],
  bigint: [...NUMBERS, "2147483647"],
  oid: ["0", "7", "32767"],
  boolean: ["t", "f"],
  numeric: [...DECIMALS, "100000000000000000000.00000"],
  "numeric(6,2)": DECIMALS,
  "numeric(12,2)": DECIMALS,
  "numeric(12,4)": DECIMALS,
  "numeric(80,2)": DECIMALS,
  "numeric(5,0)": ["0", "-12345", "7"],
  real: ["0", "0.1", "-2.5", "1e20"],
  "double precision": ["0", "0.1", "-2.5", "1e20", "123456789"],
  text: TEXTS,
  "character varying": TEXTS,
  "character varying(10)": TEXTS,
  "character varying(300)": [...TEXTS, "x".repeat(300)],
  "character(5)": ["", "ab"],
  date: ["2026-11-22", "infinity", "4713-01-01 BC", "99999-12-31"],
  "time without time zone": ["00:00:00", "24:00:00", "12:30:00.5"],
  "time(3) without time zone": ["00:00:00", "12:30:00.5"],
  "timestamp without time zone": TIMESTAMPS,
  "timestamp(3) without time zone": TIMESTAMPS,
  "timestamp with time zone": TIMESTAMPS,
  interval: ["1 year -2 mons +3 days 04:05:06.789", "0"],
  uuid: ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
  json: ['{"b": 1,  "b":2}'],
  jsonb: ['{"b": 1}'],
  bytea: ["\\x00ff4142"],
  inet: ["10.0.0.1", "10.0.0.1/8"],
  cidr: ["10.0.0.0/8", "10.0.0.1/32"],
  '"char"': ["x"],
  "bit(3)": ["101"],
  "bit varying": ["101"],
  "integer[]": ["{1,NULL,3}"],
  "text[]": ['{a,"b c"}'],
  "character varying[]": ['{a,"b c"}'],
  "public.mood": ["so so"],
};
const NAMES = Object.keys(TYPES);
let source: SourceDatabase;
let client: pg.Client;
beforeAll(async () => {
  source = await openSourceDatabase("CREATE TYPE mood AS ENUM ('so so')");
  client = source.client;
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
});

let tables = 0;

/** The table's schema as cdc would publish it now. */
async function readSchema(table: string, oid: number): Promise<TableSchema> {
  const { id: _, ...base } = tableSchema(table, { id: "integer", v: "text", kept: "text" });
  const { rows } = await client.query<{ oid: number; type: string; typmod: number }>(
    "SELECT atttypid::int AS oid, format_type(atttypid, atttypmod) AS type, atttypmod AS typmod FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'v'",
    [`public.${table}`],
  );
  const [found] = rows;
  const columns = base.columns.map(
    (column): ColumnSchema =>
      column.name === "v" && found ? { ...column, type: found.type, typeOid: found.oid, typmod: found.typmod } : column,
  );
  return identifySchema({ ...base, oid, columns });
}

/** As cdc puts it on the wire (contract.md §3). */
function wireValue(oid: number, text: string | null): WireValue {
  if (text === null) return null;
  if (oid === 16) return text === "t";
  if (oid === 17) return Buffer.from(text.slice(2), "hex").toString("base64");
  if (oid === 21 || oid === 23) return Number(text);
  if (oid === 700 || oid === 701) return Number(text);
  return text;
}

async function readRows({ table, columns }: TableSchema): Promise<readonly WireRow[]> {
  const text = `SELECT id, CASE WHEN v IS NOT NULL THEN format('%s', v) END AS text, kept FROM public.${table} ORDER BY id`;
  const { rows } = await client.query<{ id: number; text: string | null; kept: string }>(text);
  return rows.map(({ id, text: value, kept }) => ({ id, v: wireValue(columns[1]?.typeOid ?? 0, value), kept }));
}

interface Changed {
  readonly from: TableSchema;
  readonly to: TableSchema;
  readonly before: readonly WireRow[];
}

/** A table of main-db's whose column v has changed its type; null when PostgreSQL does not cast. */
async function changedTable(fromType: string, toType: string): Promise<Changed | null> {
  const table = `c${++tables}`;
  await client.query(
    `DROP TABLE IF EXISTS public.c${tables - 1}; CREATE TABLE public.${table} (id integer PRIMARY KEY, v ${fromType}, kept text)`,
  );
  await client.query(
    `INSERT INTO public.${table} SELECT at, literal::${fromType}, 'k' || at FROM unnest($1::text[]) WITH ORDINALITY AS l(literal, at)`,
    [[...(TYPES[fromType] ?? []), null]],
  );
  const from = await readSchema(table, 20_000 + tables);
  const before = await readRows(from);
  const altered = await client.query(`ALTER TABLE public.${table} ALTER COLUMN v TYPE ${toType}`).then(
    () => true,
    () => false,
  );
  return altered ? { from, to: await readSchema(table, 20_000 + tables), before } : null;
}

async function alter({ alter: to }: Changer, changedTo: Changed, rewritten: boolean): Promise<CascadeError | null> {
  try {
    await to(changedTo.to, { rewritten });
    return null;
  } catch (error) {
    if (error instanceof CascadeError) return error;
    throw error;
  }
}

/** Of the changes whose values are not certain, for each type. */
const UNCERTAIN_TRIED = 2;

describe.each(REPLICA_KINDS.filter((kind) => isMysql(kind) || kind === "duckdb"))("%s replica", (kind) => {
  let lab: ReplicaLab;
  let tables: Changer;
  beforeAll(async () => {
    lab = await replicaLab(kind);
    tables = await changer(lab);
  });
  afterAll(() => lab.close());

  /** As text where DuckDB's client has no value for infinity. */
  const values = (schema: TableSchema) =>
    kind === "duckdb" ? lab.sql(`SELECT id, CAST(v AS VARCHAR) AS v FROM ${lab.nameOf(schema)}`) : lab.rows(schema);

  /** As the rows come again after a copy is announced: until then the other columns keep their values. */
  const copyAgain = async (what: string, given: Changed) => {
    const { to, before } = given;
    expect([what, await alter(tables, given, true)]).toEqual([what, null]);
    const kept = (rows: readonly Readonly<Record<string, unknown>>[]) => rows.map((row) => String(row["kept"])).sort();
    expect([what, ...kept(await lab.rows(to))]).toEqual([what, ...kept(before)]);
    const router = await applier(tables.replica, to);
    await router.apply((await readRows(to)).map((row) => event("r", null, row)));
  };

  test.each(NAMES)("from %s", async (fromType) => {
    let uncertain = 0;
    for (const toType of NAMES) {
      const given = toType === fromType ? null : await changedTable(fromType, toType);
      if (given === null) continue;
      const { from, to, before } = given;
      const [old, now] = [from.columns[1], to.columns[1]] as [ColumnSchema, ColumnSchema];
      const conversion = conversionOf(old, now);
      if (conversion === null && ++uncertain > UNCERTAIN_TRIED) continue;
      const what = `${fromType} -> ${toType} (${conversion})`;
      await tables.create(from);
      const { apply } = await applier(tables.replica, from);
      await apply(before.map((row) => event("c", null, row)));
      const refused = await alter(tables, given, false);
      if (conversion === null || refused !== null)
        expect([what, refused?.code, refused?.verdict]).toEqual([what, "REPLICA_CHANGE_REFUSED", "stop-table"]);
      if (refused !== null) await copyAgain(what, given);
      const fresh = identifySchema({ ...to, oid: to.oid + 100_000, table: `${to.table}_new` });
      await tables.create(fresh);
      const copy = await applier(tables.replica, fresh);
      await copy.apply((await readRows(to)).map((row) => event("r", null, row)));
      const [changed, copied] = [comparableRows(await values(to)), comparableRows(await values(fresh))];
      expect([what, changed]).toEqual([what, copied]);
      expect([what, (await tables.replica.prepare(to)).columns]).toEqual([what, (await tables.replica.prepare(fresh)).columns]);
      for (const { oid } of [to, fresh]) await tables.change({ kind: "drop", from: await tables.remembered(oid) });
    }
  });
});
