import { afterAll, expect, test } from "bun:test";
import { testMariadb, testPostgres } from "@cascade/local/servers.ts";
import type { WireValue } from "@cascade/shared/change-event";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { DuckDBInstance } from "@duckdb/node-api";
import { Ownership } from "../src/ownership.ts";
import { parseShardRules } from "../src/shard-rules.ts";

/** docs/sharding.md: everybody can say whose a row is, in SQL. */

const COUNT = 7;
const name = `shard_sql_${process.pid}`;
afterAll(async () => (await testPostgres()).dropDatabase(name));

/** Whose a row of the columns is, as routers say. */
function ownerOf(columns: readonly (readonly [type: string, value: WireValue])[]): number {
  const named = columns.map(([type, value], at) => [`c${at}`, type, value] as const);
  const schema = tableSchema(
    "t",
    named.map(([column, type]) => [column, type] as const),
    { identity: "full" },
  );
  const rules = parseShardRules(`public.t=${named.map(([column]) => column).join("+")}`);
  const row = Object.fromEntries(named.map(([column, , value]) => [column, value]));
  const event = {
    op: "c",
    before: null,
    after: row,
    schemaId: "",
    committedAtMs: 0,
    commitLsn: 1n,
    ordinal: 0,
    marks: null,
  } as const;
  return Array.from({ length: COUNT }, (_, index) => index).findIndex(
    (index) => new Ownership({ index, count: COUNT }, rules).of(schema)?.here(event) !== null,
  );
}

const hashed = (text: string) => `('x' || left(md5(${text}), 8))::bit(32)::bigint % ${COUNT}`;

const values: readonly (readonly [type: string, sql: string, text: string, wire: WireValue])[] = [
  ["integer", "7", "v::text", 7],
  ["bigint", "-9007199254740993", "v::text", "-9007199254740993"],
  ["boolean", "true", "v::text", true],
  ["text", "'é😀'", "v::text", "é😀"],
  ["numeric", "1.50", "trim_scale(v)::text", "1.50"],
  ["numeric", "100", "trim_scale(v)::text", "100"],
  ["date", "'2026-01-02'", "v::text", "2026-01-02"],
  ["timestamp without time zone", "'2026-01-02 03:04:05.120'", "v::text", "2026-01-02 03:04:05.12"],
  ["timestamp with time zone", "'2026-01-02 05:04:05+02'", "v::text", "2026-01-02 03:04:05+00"],
  ["uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "v::text", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
];

test("PostgreSQL says it of every type, of NULL and of several columns", async () => {
  const server = await testPostgres();
  await server.createDatabase(name);
  await server.query(name, `ALTER DATABASE ${name} SET TimeZone = 'UTC'`);
  const owner = async (sql: string) => Number((await server.query(name, sql))[0]?.["n"]);
  for (const [type, sql, text, wire] of values) {
    const said = await owner(`SELECT ${hashed(`coalesce(${text}, '')`)} AS n FROM (SELECT ${sql}::${type} AS v) AS t`);
    expect([type, sql, said]).toEqual([type, sql, ownerOf([[type, wire]])]);
  }
  expect(await owner(`SELECT ${hashed("coalesce(v::text, '')")} AS n FROM (SELECT NULL::text AS v) AS t`)).toBe(
    ownerOf([["text", null]]),
  );
  const pair = hashed("concat_ws(chr(31), coalesce(tenant::text, ''), id::text)");
  for (const tenant of ["acme", null]) {
    const from = `(SELECT ${tenant === null ? "NULL" : `'${tenant}'`}::text AS tenant, 5 AS id) AS t`;
    expect(await owner(`SELECT ${pair} AS n FROM ${from}`)).toBe(
      ownerOf([
        ["text", tenant],
        ["integer", 5],
      ]),
    );
  }
});

const elsewhere = values.filter(([type]) => ["integer", "bigint", "text", "date"].includes(type));

test("DuckDB and MariaDB say it of whole numbers, texts and dates", async () => {
  const duckdb = await (await DuckDBInstance.create(":memory:")).connect();
  const mariadb = await testMariadb();
  for (const [type, sql, , wire] of elsewhere) {
    const owner = ownerOf([[type, wire]]);
    const [row] = (
      await duckdb.runAndReadAll(
        `SELECT ('0x' || left(md5(coalesce(v::VARCHAR, '')), 8))::BIGINT % ${COUNT} FROM (SELECT ${sql}::${type} AS v)`,
      )
    ).getRows();
    expect([type, Number(row?.[0])]).toEqual([type, owner]);
    if (mariadb === null) continue;
    const cast = type === "text" ? sql : `CAST(${sql} AS ${type === "date" ? "DATE" : "SIGNED"})`;
    const found = await mariadb.query(
      "mysql",
      `SELECT CONV(LEFT(MD5(COALESCE(v, '')), 8), 16, 10) % ${COUNT} AS n FROM (SELECT ${cast} AS v) AS t`,
    );
    expect([type, Number(found[0]?.["n"])]).toEqual([type, owner]);
  }
  duckdb.closeSync();
});
