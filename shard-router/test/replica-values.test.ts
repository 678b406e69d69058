import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { WireRow, WireValue } from "@cascade/shared/change-event";
import { UnsupportedValueError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import pg from "pg";
import type { Replica } from "../src/replica.ts";
import { applier, event, REPLICA_KINDS, type ReplicaKind, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Every common type of PostgreSQL arrives exactly: its text on the replica is its text at the source. */

interface TypeCase {
  readonly type: string;
  /** Has no order, so that it can be in no key. */
  readonly unordered?: true;
  /** Literals, as a user of the source writes them. */
  readonly literals: readonly string[];
}

const FLOATS = ["NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "1e-5", "0.0001", "123456", "1234567", "1e15", "1e20"];
const CASES: readonly TypeCase[] = [
  { type: "boolean", literals: ["t", "f"] },
  { type: "smallint", literals: ["-32768", "32767"] },
  { type: "integer", literals: ["-2147483648", "2147483647", "0"] },
  {
    type: "bigint",
    literals: ["-9223372036854775808", "9223372036854775807", "9007199254740993", "-1", "2147483648", "999999999"],
  },
  { type: "numeric", literals: ["0", "1.0", "1.00", "-0.00", "1234567890123456789012345678.0123456789", "NaN", "1e-20"] },
  { type: "numeric(12,4)", literals: ["19.9", "-12345678.1234"] },
  { type: "real", literals: [...FLOATS, "3.4028235e38", "1e-45", "1.17549435e-38", "16777217", "999999.9"] },
  {
    type: "double precision",
    literals: [...FLOATS, "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "9007199254740993", "100000000000000.1"],
  },
  { type: "oid", literals: ["0", "4294967295"] },
  { type: "text", literals: ["", "é😀'\"\\", "\u0001\u001f\u007f\t\n\r", "NULL", "null", "{}", "$1 ? :a", " x ", "\u2028"] },
  { type: "character varying(10)", literals: ["", "0123456789", "a   "] },
  { type: "character(5)", literals: ["", "ab", "é😀"] },
  { type: '"char"', literals: ["", "x"] },
  { type: "name", literals: ["pg_class"] },
  { type: "bytea", literals: ["", "\\x00ff4142", "\\x0a"] },
  { type: "date", literals: ["2026-11-22", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01"] },
  { type: "time without time zone", literals: ["00:00:00", "24:00:00", "23:59:59.999999"] },
  { type: "time with time zone", literals: ["12:00:00.5+13:45", "12:00:00-15:59:59"] },
  {
    type: "timestamp without time zone",
    literals: ["2026-11-22 13:07:56.163379", "infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"],
  },
  {
    type: "timestamp(3) with time zone",
    literals: ["2026-11-22 13:07:56.163+05:30", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC"],
  },
  { type: "interval", literals: ["1 year -2 mons +3 days 04:05:06.789", "-1 days", "24:00:00", "0", "178000000 years"] },
  { type: "uuid", literals: ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"] },
  { type: "json", unordered: true, literals: ['{"b": 1,  "b":2, "a" : 1.10}', "null", '"\\u00e9"', "[1e400]"] },
  { type: "jsonb", literals: ['{"b": 1, "b": 2, "a": 1.10}', "null", "123456789012345678901234567890"] },
  { type: "integer[]", literals: ["{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[0:1]={1,2}"] },
  { type: "text[]", literals: ['{a,"b,c",NULL,"NULL","","q\\"\\\\"}'] },
  { type: "numeric[]", literals: ["{1.0,NaN}"] },
  { type: "character(3)[]", literals: ['{a,"b  "}'] },
  { type: "inet", literals: ["10.0.0.1", "10.0.0.1/8", "::1"] },
  { type: "cidr", literals: ["10.0.0.0/8"] },
  { type: "macaddr", literals: ["08:00:2b:01:02:03"] },
  { type: "bit(3)", literals: ["101"] },
  { type: "bit varying", literals: ["", "10101"] },
  { type: "money", literals: ["-1234.50"] },
  { type: "int4range", literals: ["[1,5)", "empty", "(,)"] },
  { type: "tstzrange", literals: ['["2026-01-01 00:00:00+00",infinity]'] },
  { type: "point", unordered: true, literals: ["(1.5,-0)"] },
  { type: "xml", unordered: true, literals: ["<a b='1'>é</a>"] },
  { type: "tsvector", literals: ["'a':1 'b c':2A"] },
  { type: "pg_lsn", literals: ["FFFFFFFF/FFFFFFFF"] },
  { type: "regclass", literals: ["pg_class", "only_here"] },
  { type: "public.mood", literals: ["so so", `it's "ok"`] },
  { type: "public.pair", literals: ['(1,"a ""q"", b")'] },
];

const PINNED =
  "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET lc_monetary = 'C'; SET extra_float_digits = 1; SET search_path = ''";

let source: ReplicaLab;
let client: pg.Client;
beforeAll(async () => {
  source = await replicaLab("postgres");
  client = new pg.Client({ connectionString: source.url });
  await client.connect();
  await client.query(
    `CREATE TYPE mood AS ENUM ('so so', 'it''s "ok"'); CREATE TYPE pair AS (a int, b text); CREATE TABLE only_here (a int); ${PINNED}`,
  );
});
afterAll(async () => {
  await client.end();
  await source.close();
});

/** Each literal's text at the source, and the type's OID. */
async function atSource(
  type: string,
  literals: readonly string[],
): Promise<readonly { readonly oid: number; readonly text: string }[]> {
  // regclass needs the path that the table was made on.
  const given = literals.map((literal) => (literal === "only_here" ? "public.only_here" : literal));
  const text = `SELECT v::text AS text, pg_typeof(v)::oid::int AS oid FROM (SELECT at, literal::${type} AS v FROM unnest($1::text[]) WITH ORDINALITY AS l(literal, at)) x ORDER BY at`;
  return (await client.query<{ oid: number; text: string }>(text, [given])).rows;
}

/** As cdc puts it on the wire (contract.md §3). */
function wireValue(oid: number, text: string): WireValue {
  if (oid === 16) return text === "true";
  if (oid === 17) return Buffer.from(text.slice(2), "hex").toString("base64");
  if (oid === 21 || oid === 23) return Number(text);
  if (oid === 700 || oid === 701) return Number.isFinite(Number(text)) ? Number(text) : text;
  return text;
}

const pinned = async (lab: ReplicaLab, kind: ReplicaKind): Promise<ReplicaLab> => {
  if (kind === "postgres") await lab.sql(PINNED);
  return lab;
};

/** What SQLite should hold for a source's text, by the storage class it was given. */
function sqliteText(oid: number, text: string): string | number {
  if (oid === 16) return text === "true" ? "1" : "0";
  if (oid === 17) return text.slice(2).toUpperCase();
  if (oid === 700 || oid === 701) return Number(text);
  return text;
}

describe.each(REPLICA_KINDS)("%s replica", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  let tables = 0;
  beforeAll(async () => {
    lab = await pinned(await replicaLab(kind), kind);
    replica = await lab.open();
  });
  afterAll(() => lab.close());

  const schemaOf = (type: string, oid: number, key: readonly string[]): TableSchema => {
    const base = tableSchema(`v${++tables}`, { id: "integer", v: "text" }, { key });
    return { ...base, columns: base.columns.map((column) => (column.name === "v" ? { ...column, type, typeOid: oid } : column)) };
  };
  const refused = (oid: number, text: string): boolean =>
    kind === "sqlite" && (oid === 700 || oid === 701) && (text === "NaN" || text === "-0");
  const held = async (schema: TableSchema, oid: number): Promise<readonly (string | number | null)[]> => {
    const value =
      kind === "postgres"
        ? "v::text"
        : oid === 17
          ? "CASE WHEN v IS NOT NULL THEN hex(v) END"
          : "CASE typeof(v) WHEN 'integer' THEN CAST(v AS TEXT) ELSE v END";
    return (await lab.sql(`SELECT ${value} AS held FROM ${lab.nameOf(schema)} ORDER BY id`)).map(
      (found) => found["held"] as string | number,
    );
  };

  test.each(CASES.map((given) => [given.type, given] as const))("%s", async (_type, { type, literals, unordered }) => {
    const values = await atSource(type, literals);
    const oid = values[0]?.oid ?? 0;
    const kept = values.filter(({ text }) => !refused(oid, text));
    const rowOf = (text: string, id: number): WireRow => ({ id, v: wireValue(oid, text) });
    const schema = schemaOf(type, oid, ["id"]);
    const { apply } = await applier(replica, schema);
    await apply(kept.map(({ text }, id) => event("c", null, rowOf(text, id))));
    await apply([event("c", null, { id: -1, v: null })]);
    const expected = kept.map(({ text }) => (kind === "postgres" ? text : sqliteText(oid, text)));
    expect(await held(schema, oid)).toEqual([null, ...expected]);

    // Found again, by a key that holds it and without a key.
    for (const key of unordered ? [[]] : [["v"], []]) {
      const found = schemaOf(type, oid, key);
      const router = await applier(replica, found);
      for (const { text } of kept) {
        const row = rowOf(text, 0);
        const identity = key.length === 0 ? row : { v: row["v"] ?? null };
        await router.apply([event("c", null, row)]);
        await router.apply([
          event("u", identity, { ...row, id: 1 }),
          event("d", key.length === 0 ? { ...row, id: 1 } : identity, null),
        ]);
        expect(await lab.rows(found)).toEqual([]);
      }
    }
  });

  test("a text column of the user's own holds PostgreSQL's text of every type", async () => {
    for (const { type, literals } of CASES.filter((given) => given.type !== "bytea")) {
      const values = await atSource(type, literals);
      const oid = values[0]?.oid ?? 0;
      const schema = schemaOf(type, oid, ["id"]);
      await lab.sql(`CREATE TABLE ${lab.nameOf(schema)} (id integer PRIMARY KEY, v text)`);
      const { apply } = await applier(replica, schema);
      await apply(values.map(({ text }, id) => event("c", null, { id, v: wireValue(oid, text) })));
      expect(await held(schema, oid)).toEqual(values.map(({ text }) => text));
    }
  });
});

test("PostgreSQL: a row put over one whose equal key looks different takes the new look", async () => {
  const lab = await replicaLab("postgres");
  const schema = tableSchema("n", { id: "numeric", v: "text" });
  const { apply } = await applier(await lab.open(), schema);
  await apply([event("c", null, { id: "1.0", v: "a" })]);
  await apply([event("r", null, { id: "1.00", v: "b" })]);
  expect(await lab.rows(schema)).toEqual([{ id: "1.00", v: "b" }]);
  await lab.close();
});

test("SQLite refuses the floats it cannot hold, and says where and what to do", async () => {
  const lab = await replicaLab("sqlite");
  const schema = tableSchema("f", { id: "integer", weight: "double precision" });
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
      advice: expect.stringContaining("TEXT column weight"),
    });
  }
  expect(await lab.rows(schema)).toEqual([]);
  await lab.close();
});
