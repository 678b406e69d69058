import { expect, test } from "bun:test";
import type { Position } from "@cascade/shared/lsn";
import { identifySchema, type SchemaMessage } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import { SchemaHistory } from "./schema-history.ts";

const schemaOf = (oid: number, table: string, columns = 1) =>
  identifySchema({
    schema: "public",
    table,
    oid,
    columns: Array.from({ length: columns }, (_, n) => columnSchema(`c${n}`, "integer", { attnum: n + 1, nullable: false })),
    key: ["c0"],
    identity: "default",
  });
const at = (commitLsn: bigint, ordinal = 0): Position => ({ commitLsn, ordinal });
const said = (schema: ReturnType<typeof schemaOf>, place: Position | null): SchemaMessage => ({
  kind: "schema",
  schema,
  at: place,
  rewritten: false,
});

const [a, wide, other] = [schemaOf(1, "a"), schemaOf(1, "a", 2), schemaOf(2, "b")];
const history = new SchemaHistory([
  said(a, null),
  said(other, at(20n)),
  said(wide, at(30n, 4)),
  said(a, at(30n, 5)),
  { kind: "dropped", schema: "public", table: "b", oid: 2, at: at(40n) },
]);
const shown = (message: SchemaMessage | undefined) =>
  message?.kind === "schema" ? message.schema.columns.length : message?.kind;

test("a table is what was last announced before a transaction; one without a place was always there", () => {
  expect([0n, 30n, 31n].map((lsn) => shown(history.asOf(1, lsn)))).toEqual([1, 1, 1]);
  expect([0n, 20n, 21n, 40n, 41n].map((lsn) => shown(history.asOf(2, lsn)))).toEqual([undefined, undefined, 1, 1, "dropped"]);
  expect(history.asOf(3, 100n)).toBeUndefined();
});

test("what comes later comes in order, and the newest is the last in the topic", () => {
  expect(history.after(30n).map(shown)).toEqual([2, 1, "dropped"]);
  expect([shown(history.newest(1)), shown(history.newest(2))]).toEqual([1, "dropped"]);
  expect(history.ids).toEqual(new Set([a.id, wide.id, other.id]));
});

test("what a cdc says late, which another has overtaken, is news of the past", () => {
  const late = new SchemaHistory([said(a, at(10n)), said(wide, at(30n)), said(a, at(10n))]);
  expect(shown(late.newest(1))).toBe(2);
  const same = new SchemaHistory([said(wide, at(30n)), said(a, at(30n))]);
  expect(shown(same.newest(1))).toBe(1);
});

test("schemas of a table, or of a name, come newest first", () => {
  expect([...history.schemasOf(1)].map(({ id }) => id)).toEqual([a.id, wide.id, a.id]);
  expect([...history.schemasNamed({ schema: "public", table: "b" })].map(({ id }) => id)).toEqual([other.id]);
  expect([...history.schemasNamed({ schema: "public", table: "c" })]).toEqual([]);
});
