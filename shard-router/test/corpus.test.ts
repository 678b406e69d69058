import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { comparableRows } from "@cascade/shared/testing/table-histories";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type { Dialect, DialectName } from "../src/dialect.ts";
import { duckdbDialect, duckdbTableName } from "../src/dialects/duckdb.ts";
import { mariadbDialect } from "../src/dialects/mariadb.ts";
import { mysqlDialect, quoteMysql } from "../src/dialects/mysql.ts";
import { postgresDialect, postgresTableName } from "../src/dialects/postgres.ts";
import { quote } from "../src/dialects/sql.ts";
import { sqliteDialect } from "../src/dialects/sqlite.ts";
import { flatTableName } from "../src/dialects/table-names.ts";
import type { Mutation } from "../src/mutation.ts";
import type { Replica } from "../src/replica.ts";
import { applier, REPLICA_KINDS, type ReplicaLab, replicaLab, workFor } from "./replica-labs.ts";

/**
 * One corpus of mutations: what every dialect says of it, side by side (in __snapshots__), and what every engine then holds. Its names
 * and values are those that break statements put together from text: quotes of all kinds, backslashes, comment and parameter marks.
 */

const DIALECTS: Readonly<Record<DialectName, readonly [Dialect, (schema: TableSchema) => string]>> = {
  postgres: [postgresDialect, postgresTableName],
  mysql: [mysqlDialect, (schema) => quoteMysql(flatTableName(schema))],
  mariadb: [mariadbDialect, (schema) => quoteMysql(flatTableName(schema))],
  sqlite: [sqliteDialect, (schema) => quote(flatTableName(schema))],
  duckdb: [duckdbDialect, duckdbTableName],
};

/** In every name and value that is made to break out: no statement may do what it says, and no text may hold it as a value. */
const ATTACK = "DROP TABLE canary";
const BREAKS = [
  `'; ${ATTACK}; --`,
  `"; ${ATTACK}; --`,
  `\`; ${ATTACK}; -- `,
  `\\'; ${ATTACK}; -- x`,
  `\\"; ${ATTACK}; # x`,
  `*/ ${ATTACK}; /*`,
  `'||(${ATTACK})||'`,
  `%_$1 ? :a @a $$ {{}} ${ATTACK}`,
  `\u0001\u001a\n\r\t' ${ATTACK}`,
  `\u02bc; ${ATTACK}; \uff07`,
  "\\",
  "'",
  "",
];

interface Case {
  readonly source: TableSchema;
  readonly mutations: readonly Mutation[];
  readonly rows: readonly WireRow[];
}

const plain = tableSchema("plain", { id: "bigint", n: "integer", v: "text" });
const pair = tableSchema("pair", { b: "text", a: "integer", v: "numeric" }, { key: ["b", "a"] });
const log = tableSchema("log", { at: "interval", v: "text" }, { key: [] });
const keyOnly = tableSchema("key_only", { a: "integer", b: "uuid" }, { key: ["a", "b"] });
const UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
const row = (id: string, n: number | null, v: string | null): WireRow => ({ id, n, v });

/** A table whose every name attacks: `at` picks whose turn it is. */
function hostileTable(at: number): Case {
  const attack = `${BREAKS[at]}.`.slice(0, 60);
  const source = tableSchema(
    `t ${attack}`,
    [
      [`k ${attack}`, "text"],
      [`v ${attack}`, "text"],
    ],
    { schema: at % 2 === 0 ? "public" : `s ${at} "'\`` },
  );
  const make = (key: string, value: string): WireRow => ({ [`k ${attack}`]: key, [`v ${attack}`]: value });
  return {
    source,
    mutations: [
      ...BREAKS.map((text, index): Mutation => ({ kind: "put", row: make(`${index}${text}`, text) })),
      ...BREAKS.map((text, index): Mutation => ({ kind: "patch", row: make(`${index}${text}`, `${text}${text}`) })),
      ...BREAKS.slice(1).map(
        (text, index): Mutation => ({
          kind: "move",
          from: { [`k ${attack}`]: `${index + 1}${text}` },
          row: make(`moved ${index}${text}`, text),
        }),
      ),
      { kind: "delete", key: { [`k ${attack}`]: `0${BREAKS[0]}` } },
    ],
    rows: BREAKS.slice(1).map((text, index) => make(`moved ${index}${text}`, text)),
  };
}

const CASES: Readonly<Record<string, Case>> = {
  "put, once more, patch and delete": {
    source: plain,
    mutations: [
      { kind: "put", row: row("1", 1, "a") },
      { kind: "put", row: row("9007199254740993", null, null) },
      { kind: "put", row: row("3", 3, "c") },
      { kind: "put", row: row("1", 2, "b") },
      { kind: "patch", row: { id: "9007199254740993", v: "patched" } },
      { kind: "patch", row: { id: "3", n: 4 } },
      { kind: "delete", key: { id: "3" } },
    ],
    rows: [row("1", 2, "b"), row("9007199254740993", null, "patched")],
  },
  "a key of two columns moves, with and without what stays": {
    source: pair,
    mutations: [
      { kind: "put", row: { b: "x", a: 1, v: "1.00" } },
      { kind: "put", row: { b: "y", a: 1, v: null } },
      { kind: "move", from: { b: "y", a: 1 }, row: { b: "Y", a: 1 } },
      { kind: "move", from: { b: "x", a: 1 }, row: { b: "y", a: 1, v: "2.50" } },
    ],
    rows: [
      { b: "y", a: 1, v: "2.50" },
      { b: "Y", a: 1, v: null },
    ],
  },
  "a table that is all key": {
    source: keyOnly,
    mutations: [
      { kind: "put", row: { a: 1, b: UUID } },
      { kind: "put", row: { a: 1, b: UUID } },
      { kind: "patch", row: { a: 1, b: UUID } },
    ],
    rows: [{ a: 1, b: UUID }],
  },
  "of equal rows without a key one goes": {
    source: log,
    mutations: [
      ...["a", "a", "A", "a "].map((v): Mutation => ({ kind: "append", row: { at: "1 day", v } })),
      { kind: "append", row: { at: null, v: null } },
      { kind: "remove", row: { at: "1 day", v: "a" } },
      { kind: "remove", row: { at: null, v: null } },
    ],
    rows: ["a", "A", "a "].map((v) => ({ at: "1 day", v })),
  },
  "truncate, then go on": {
    source: plain,
    mutations: [{ kind: "put", row: row("1", 1, "a") }, { kind: "truncate" }, { kind: "put", row: row("2", 2, "b") }],
    rows: [row("2", 2, "b")],
  },
  ...Object.fromEntries(BREAKS.map((_, at) => [`names and values that attack, ${at}`, hostileTable(at)] as const)),
};

function said(dialect: DialectName, { source, mutations }: Case): string {
  const [{ columnsOf, createTable, render }, nameOf] = DIALECTS[dialect];
  const table = { source, sqlName: nameOf(source), columns: columnsOf(source), referenced: false };
  const statements = mutations.flatMap((mutation) => render(table, [mutation]));
  return [...createTable(source), ...new Set(statements.map(({ text }) => text))].join("\n");
}

test.each(Object.entries(CASES))("%s: what every dialect says", (_name, given) => {
  const texts = (Object.keys(DIALECTS) as DialectName[]).map((dialect) => `-- ${dialect}\n${said(dialect, given)}`);
  expect(`\n${texts.join("\n\n")}\n`).toMatchSnapshot();
});

test("no value is part of a statement's text", () => {
  const source = tableSchema("t", { k: "text", v: "text" });
  const none = tableSchema("t", { k: "text", v: "text" }, { key: [] });
  for (const [dialect, nameOf] of Object.values(DIALECTS)) {
    for (const text of BREAKS.slice(0, 10)) {
      const whole = { k: text, v: text };
      const keyed: readonly Mutation[] = [
        { kind: "put", row: whole },
        { kind: "patch", row: whole },
        { kind: "delete", key: { k: text } },
        { kind: "move", from: { k: text }, row: whole },
      ];
      const keyless: readonly Mutation[] = [
        { kind: "append", row: whole },
        { kind: "remove", row: whole },
      ];
      for (const [table, mutations] of [[source, keyed] as const, [none, keyless] as const]) {
        const replica = { source: table, sqlName: nameOf(table), columns: dialect.columnsOf(table), referenced: false };
        for (const statement of mutations.flatMap((mutation) => dialect.render(replica, [mutation])))
          expect(statement.text).not.toContain(ATTACK);
      }
    }
  }
});

describe.each(REPLICA_KINDS)("%s", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  beforeAll(async () => {
    lab = await replicaLab(kind);
    replica = await lab.open();
    await lab.sql("CREATE TABLE canary (alive integer)");
    await lab.sql("INSERT INTO canary VALUES (1)");
  });
  afterAll(() => lab.close());

  test.each(Object.entries(CASES))("%s: coalesced and one by one", async (_name, { source, mutations, rows }) => {
    const router = await applier(replica, source);
    const { statements, inOrder } = workFor(replica, router.table, mutations);
    for (const texts of [statements, inOrder()]) {
      await router.applyWork({
        statements: [{ text: `DELETE FROM ${lab.nameOf(source)}`, parameterSets: [[]] }],
        inOrder: () => [],
      });
      await router.applyWork({ statements: texts, inOrder: () => texts });
      expect(comparableRows(await lab.rows(source))).toEqual(comparableRows(rows));
    }
    expect(String((await lab.sql("SELECT alive FROM canary"))[0]?.["alive"])).toBe("1");
    await lab.sql(`DROP TABLE ${lab.nameOf(source)}`);
  });
});
