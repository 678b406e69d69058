import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { compareReplica, isEqual } from "@cascade/local/canonical-state.ts";
import type { WireRow, WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type pg from "pg";
import type { Replica } from "../src/replica.ts";
import { asText, type TypeRow } from "../src/types/type-row.ts";
import { TYPE_TABLE } from "../src/types/type-table.ts";
import { applier, event, REPLICA_KINDS, type ReplicaLab, replicaLab, type TestedDialect } from "./replica-labs.ts";
import { openSourceDatabase, type SourceDatabase } from "./source-database.ts";

/** Every literal of every type arrives exactly on every engine, or is refused where the type table says so. */

/** Types of the source's own; domains reach the router as their base types. */
const OWN_TYPES: readonly Pick<TypeRow, "types" | "columns" | "literals" | "unordered">[] = [
  { types: { "public.mood": 0 }, columns: asText, literals: ["so so", `it's "ok"`] },
  { types: { "public.pair": 0 }, columns: asText, literals: ['(1,"a ""q"", b")'] },
  { types: { "public.mood[]": 0 }, columns: asText, literals: ['{"so so",NULL}'] },
  { types: { "public.hstore": 0 }, unordered: true, columns: asText, literals: ['"a"=>"1", "b"=>NULL'] },
  { types: { "public.citext": 0 }, columns: asText, literals: ["Ab", "a "] },
  { types: { "public.ltree": 0 }, columns: asText, literals: ["Top.Science"] },
  { types: { "public.isbn": 0 }, columns: asText, literals: ["978-0-393-04002-9"] },
];
const CASES = [...TYPE_TABLE, ...OWN_TYPES].flatMap((row: Omit<TypeRow, "group">) =>
  Object.entries(row.types).map(([type, oid]) => [type, { ...row, type, oid }] as const),
);
type Case = (typeof CASES)[number][1];

let source: SourceDatabase;
let client: pg.Client;
beforeAll(async () => {
  source = await openSourceDatabase(`CREATE TYPE mood AS ENUM ('so so', 'it''s "ok"'); CREATE TYPE pair AS (a int, b text);
     CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION isn`);
  client = source.client;
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
});

interface SourceTable {
  readonly schema: TableSchema;
  readonly rows: readonly WireRow[];
  /** Those of the literals that the type table says an engine refuses. */
  readonly refused: readonly WireRow[];
}

let tables = 0;

/** A table at the source that holds the literals which the engine takes, and all of them as cdc puts them on the wire. */
async function sourceTable(
  { type, literals, refused }: Case,
  dialect: TestedDialect,
  key: readonly string[],
): Promise<SourceTable> {
  const name = `v${++tables}`;
  // One at a time, for a comparison reads the whole catalog.
  await client.query(`DROP TABLE IF EXISTS public.v${tables - 1}`);
  // Without its key, for here both of two equal values that look different are wanted.
  await client.query(`CREATE TABLE public.${name} (id integer, v ${type})`);
  const beyond = new Set(refused?.[dialect] ?? []);
  const kept = literals.filter((literal) => !beyond.has(literal));
  const text = `WITH made AS (SELECT at::int AS at, literal::${type} AS v FROM unnest($1::text[]) WITH ORDINALITY AS l(literal, at)),
    put AS (INSERT INTO public.${name} SELECT at, v FROM made WHERE at <= $2 RETURNING 1)
    SELECT at, format('%s', v) AS text FROM made, (SELECT count(*) FROM put) p ORDER BY at`;
  const { rows } = await client.query<{ at: number; text: string }>(text, [[...kept, ...beyond], kept.length]);
  const base = tableSchema(name, { id: "integer", v: "text" }, { key });
  const { rows: found } = await client.query<{ oid: number; type: string; typmod: number }>(
    "SELECT atttypid::int AS oid, format_type(atttypid, atttypmod) AS type, atttypmod AS typmod FROM pg_attribute WHERE attrelid = $1::regclass AND attname = 'v'",
    [`public.${name}`],
  );
  const { oid, type: declared, typmod } = found[0] ?? { oid: 0, type: "", typmod: -1 };
  const columns = base.columns.map((column) =>
    column.name === "v" ? { ...column, type: declared, typeOid: oid, typmod } : column,
  );
  const wire = rows.map((row): WireRow => ({ id: row.at, v: wireValue(oid, row.text) }));
  return { schema: { ...base, columns }, rows: wire.slice(0, kept.length), refused: wire.slice(kept.length) };
}

/** As cdc puts it on the wire (contract.md §3). */
function wireValue(oid: number, text: string): WireValue {
  if (oid === 16) return text === "t";
  if (oid === 17) return Buffer.from(text.slice(2), "hex").toString("base64");
  if (oid === 21 || oid === 23) return Number(text);
  if (oid === 700 || oid === 701) return Number.isFinite(Number(text)) ? Number(text) : text;
  return text;
}

test("the type table's OIDs are PostgreSQL's", async () => {
  const declared = TYPE_TABLE.flatMap(({ types }) => Object.entries(types));
  const text = "SELECT t AS type, t::regtype::oid::int AS oid FROM unnest($1::text[]) AS t";
  const { rows } = await client.query<{ type: string; oid: number }>(text, [
    declared.map(([type]) => type.replace(/\(.*\)/, "")),
  ]);
  expect(rows.map(({ oid }) => oid)).toEqual(declared.map(([, oid]) => oid));
});

test("the type table has a row for every built-in type that a column can have", async () => {
  const { rows } = await client.query<{ name: string; oid: number }>(
    `SELECT typname AS name, oid::int FROM pg_type WHERE oid < 16384 AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A' AND typnamespace = 'pg_catalog'::regnamespace
       AND typname NOT LIKE 'pg\\_%' AND typelem = 0 AND typrelid = 0 AND typname NOT IN ('gtsvector', 'refcursor')`,
  );
  const known = new Set(TYPE_TABLE.flatMap(({ types }) => Object.values(types)));
  expect(rows.filter(({ oid }) => !known.has(oid)).map(({ name }) => name)).toEqual([]);
});

describe.each(REPLICA_KINDS)("%s replica", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  beforeAll(async () => {
    lab = await replicaLab(kind);
    replica = await lab.open();
  });
  afterAll(() => lab.close());

  const expectEqual = async ({ table }: TableSchema) => {
    const [found] = await compareReplica(source.lab.url, lab.url, `public.${table}`);
    expect(found).toBeDefined();
    if (found !== undefined && !isEqual(found)) expect(found.firstDifference ?? found).toBe("equal");
  };

  test.each(CASES)("%s", async (_type, given) => {
    const { schema, rows, refused } = await sourceTable(given, lab.dialect, ["id"]);
    const router = await applier(replica, schema);
    await router.apply(rows.map((row) => event("c", null, row)));
    await expectEqual(schema);
    for (const row of refused) {
      const error: unknown = await router.apply([event("c", null, row)]).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(UnsupportedValueError);
      expect(error).toMatchObject({ code: "UNSUPPORTED_VALUE", verdict: "stop-table" });
      expect((error as Error).message).toContain(`column v of table public.${schema.table}`);
    }
    await expectEqual(schema);

    // Found again, by a key that holds it and without a key.
    for (const key of given.unordered ? [[]] : [["v"], []]) {
      const found = await sourceTable(
        { ...given, literals: given.literals.filter((text) => text.length < 700) },
        lab.dialect,
        key,
      );
      const finder = await applier(replica, found.schema);
      for (const row of found.rows) {
        const identity = key.length === 0 ? row : { v: row["v"] ?? null };
        await finder.apply([event("c", null, row)]);
        await finder.apply([event("u", identity, { ...row, id: 0 })]);
        await finder.apply([event("d", key.length === 0 ? { ...row, id: 0 } : identity, null)]);
        expect(await lab.rows(found.schema)).toEqual([]);
      }
    }
  });

  test("a text column of the user's own holds PostgreSQL's text of every type but bytea", async () => {
    for (const [type, given] of CASES) {
      if (type === "bytea" || type === "bytea[]") continue;
      const { schema, rows, refused } = await sourceTable({ ...given, refused: {} }, lab.dialect, ["id"]);
      await lab.sql(`CREATE TABLE ${lab.nameOf(schema)} (id integer PRIMARY KEY, v ${lab.textType})`);
      const { apply } = await applier(replica, schema);
      await apply([...rows, ...refused].map((row) => event("c", null, row)));
      await expectEqual(schema);
    }
  });
});

test.each(["postgres", "sqlite"] as const)(
  "%s: a row put over one whose equal key looks different takes the new look",
  async (kind) => {
    const lab = await replicaLab(kind);
    const schema = tableSchema("n", { id: kind === "postgres" ? "numeric" : "double precision", v: "text" });
    const [first, second] = kind === "postgres" ? ["1.0", "1.00"] : [0, -0];
    const { apply } = await applier(await lab.open(), schema);
    await apply([event("c", null, { id: first, v: "a" })]);
    await apply([event("r", null, { id: second, v: "b" })]);
    expect(await lab.rows(schema)).toEqual([{ id: second, v: "b" }]);
    await lab.close();
  },
);

test("SQLite: a REAL column of the user's own refuses the floats it cannot hold, and says where and what to do", async () => {
  const lab = await replicaLab("sqlite");
  const schema = tableSchema("f", { id: "integer", weight: "double precision" });
  await lab.sql(`CREATE TABLE f (id INTEGER PRIMARY KEY, weight REAL)`);
  const { apply } = await applier(await lab.open(), schema);
  for (const weight of ["NaN", -0]) {
    const act = apply([event("c", null, { id: 1, weight: 1 }), event("c", null, { id: 2, weight })]);
    const error = await act.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(UnsupportedValueError);
    expect(error).toMatchObject({
      code: "UNSUPPORTED_VALUE",
      verdict: "stop-table",
      message: expect.stringContaining("column weight of table public.f"),
      advice: expect.stringContaining("ANY column weight"),
    });
  }
  expect(await lab.rows(schema)).toEqual([]);
  await lab.close();
});

test("SQLite: whole floats are stored as REAL, so that dividing them does not round", async () => {
  const lab = await replicaLab("sqlite");
  const schema = tableSchema("f", { id: "integer", weight: "double precision" });
  const { apply } = await applier(await lab.open(), schema);
  await apply([event("c", null, { id: 1, weight: 5 }), event("c", null, { id: 2, weight: 5 })]);
  await apply([event("u", { id: 2 }, { id: 2, weight: 7 })]);
  expect(await lab.sql("SELECT weight / 2 AS half FROM f ORDER BY id")).toEqual([{ half: 2.5 }, { half: 3.5 }]);
  await lab.close();
});
