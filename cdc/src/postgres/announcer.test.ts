import { describe, expect, test } from "bun:test";
import { type ColumnSchema, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import type { SourceMessage } from "../change-source.ts";
import { SchemaHistory } from "../schema-history.ts";
import { Announcer, mayBeRewritten, type Occasion } from "./announcer.ts";
import { readDdlMessage } from "./ddl-message.ts";
import { wireValueOfText } from "./wire-value.ts";

const column = (attnum: number, given: Partial<ColumnSchema> = {}): ColumnSchema =>
  columnSchema(`c${attnum}`, "integer", { attnum, ...given });
const table = (...columns: readonly ColumnSchema[]): TableSchema =>
  identifySchema({ schema: "public", table: "t", oid: 1, columns, key: ["c1"], identity: "default" });

describe("an announcer", () => {
  const [a, b] = [table(column(1)), table(column(1), column(2))];
  const TOLD: Occasion = { told: true, rewritten: false };
  const run = (announcer: Announcer, steps: readonly (readonly [TableSchema | "dropped", bigint, Partial<Occasion>?])[]) => {
    const into: SourceMessage[] = [];
    for (const [schema, lsn, occasion] of steps) {
      const at = { commitLsn: lsn, ordinal: 0 };
      if (schema === "dropped") announcer.dropped(1, at, into);
      else announcer.current({ schema, topic: "x.public.t" }, at, { ...TOLD, ...occasion }, into);
    }
    return into.map((m) => (m.kind === "schema" ? `${m.schema === a ? "a" : "b"}${m.rewritten ? "!" : ""}` : m.kind));
  };

  test("says what is news: a schema that comes back, one that was rewritten, one after it was dropped", () => {
    const announcer = new Announcer("x", new SchemaHistory([]));
    expect(
      run(announcer, [
        [a, 1n],
        [a, 2n],
        [b, 3n],
        [a, 4n],
        [a, 5n, { rewritten: true }],
        ["dropped", 6n],
        ["dropped", 7n],
        [a, 8n],
      ]),
    ).toEqual(["a", "b", "a", "a!", "dropped", "a"]);
  });

  test("says nothing at places that were told of in an earlier life", () => {
    const said = (schema: TableSchema, commitLsn: bigint) =>
      ({ kind: "schema", schema, at: { commitLsn, ordinal: 0 }, rewritten: false }) as const;
    const announcer = new Announcer("x", new SchemaHistory([said(a, 1n), said(b, 3n), said(a, 5n)]));
    expect(
      run(announcer, [
        [b, 3n],
        [a, 5n],
        [b, 6n],
      ]),
    ).toEqual(["b"]);
  });

  test("says that a table has left, and that it is back, over a restart too; nothing at places that were told of", () => {
    const into: SourceMessage[] = [];
    const at = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
    const first = new Announcer("x", new SchemaHistory([]));
    first.current({ schema: a, topic: "x.public.t" }, at(5n), TOLD, into);
    expect([first.leaves(1, at(4n), into), first.leaves(2, at(6n), into), into.length]).toEqual([false, false, 1]);
    expect([first.leaves(1, at(6n), into), first.leaves(1, at(7n), into)]).toEqual([true, false]);
    expect(into.at(-1)).toEqual({ kind: "left", oid: 1, schema: "public", table: "t" });
    const history = new SchemaHistory([{ kind: "schema", schema: a, at: at(5n), rewritten: false }]);
    for (const announcer of [first, new Announcer("x", history, [1])]) {
      announcer.current({ schema: a, topic: "x.public.t" }, at(8n), TOLD, into);
      expect(into.at(-1)).toMatchObject({ kind: "schema", rewritten: true, returned: true });
      announcer.current({ schema: a, topic: "x.public.t" }, at(9n), TOLD, into);
    }
    expect(into.length).toBe(4);
  });

  test("leaves the newest the newest when rows of an older version come", () => {
    const announcer = new Announcer("x", new SchemaHistory([]));
    const into: SourceMessage[] = [];
    announcer.current({ schema: b, topic: "x.public.t" }, { commitLsn: 5n, ordinal: 0 }, TOLD, into);
    for (let n = 0; n < 2; n++) announcer.former({ schema: a, topic: "x.public.t" }, { commitLsn: 6n, ordinal: n }, into);
    expect(into.map((m) => (m.kind === "schema" ? [m.schema.columns.length, m.at.commitLsn] : []))).toEqual([
      [2, 5n],
      [1, 5n],
      [2, 5n],
    ]);
  });
});

test("two looks tell of rewritten rows by types and by new columns without a known value", () => {
  const varchar = (typmod: number) => table(column(1), column(2, { typeOid: 1043, typmod }));
  const numeric = (precision: number, scale: number) =>
    table(column(1), column(2, { typeOid: 1700, typmod: precision * 0x1_0000 + scale + 4 }));
  const one = table(column(1));
  expect([
    mayBeRewritten(one, table(column(1, { name: "renamed", nullable: false }))),
    mayBeRewritten(one, table(column(1), column(2))),
    mayBeRewritten(one, table(column(1), column(2, { default: "7", missing: 7 }))),
    mayBeRewritten(table(column(1), column(2)), one),
    mayBeRewritten(varchar(7), varchar(14)),
    mayBeRewritten(varchar(7), varchar(-1)),
    mayBeRewritten(numeric(8, 2), numeric(10, 2)),
  ]).toEqual(new Array(7).fill(false));
  expect([
    mayBeRewritten(one, table(column(1, { typeOid: 20 }))),
    mayBeRewritten(one, table(column(1), column(2, { default: "random()" }))),
    mayBeRewritten(one, table(column(1), column(2, { generated: true }))),
    mayBeRewritten(varchar(14), varchar(7)),
    mayBeRewritten(numeric(8, 2), numeric(10, 4)),
  ]).toEqual(new Array(5).fill(true));
});

test("a message that is not ours, or newer, is a reason to look", () => {
  for (const text of ["", "{}", '{"v":2,"look":true}', '{"v":1,"gone":[{"oid":"x","dropped":true}]}', "[]"])
    expect(readDdlMessage(text)).toEqual({ kind: "look" });
  expect(readDdlMessage('{"v":1,"rewritten":"16400"}')).toEqual({ kind: "rewritten", oid: 16400 });
});

test("PostgreSQL's text of a value becomes the wire's", () => {
  expect([
    wireValueOfText(23, "-7"),
    wireValueOfText(20, "9007199254740993"),
    wireValueOfText(701, "1.5e-07"),
    wireValueOfText(701, "-Infinity"),
    wireValueOfText(16, "t"),
    wireValueOfText(17, "\\x00ff"),
    wireValueOfText(1700, "1.50"),
    wireValueOfText(25, ""),
  ]).toEqual([-7, "9007199254740993", 1.5e-7, "-Infinity", true, "AP8=", "1.50", ""]);
});
