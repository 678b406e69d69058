import { expect, test } from "bun:test";
import type { ChangeEvent, EventTable } from "@cascade/shared/change-event";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import type { SourceMark } from "../change-source.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { KeylessCopy } from "./keyless-copy.ts";

const SCHEMA = identifySchema({ schema: "public", table: "t", oid: 7, columns: [], key: [], identity: "full" });
const TABLE: EventTable = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: SCHEMA.id };
const transaction = (txId: number) => ({ txId, commitLsn: BigInt(txId), committedAtMs: 0 });
const MARK: SourceMark = {
  kind: "mark",
  prefix: "",
  content: "",
  transaction: transaction(1),
  ordinal: 0,
  lsn: 0n,
  table: TABLE,
};
const insert = (txId: number): ChangeEvent => ({
  op: "c",
  table: TABLE,
  transaction: transaction(txId),
  ordinal: 0,
  lsn: 0n,
  key: null,
  before: null,
  after: "{}",
});

/** Of changes by these transactions, what follows the copy whose snapshot sees those before 100. */
function followers(...txIds: readonly number[]): readonly (readonly [txId: number, replica: string | undefined])[] {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const copy = new KeylessCopy(job, WAITING);
  copy.arrive(MARK, SCHEMA);
  copy.change(insert(txIds[0] ?? 0));
  copy.found({ snapshot: { end: 100n, underWay: new Set() }, schema: SCHEMA }, []);
  for (const txId of txIds.slice(1)) copy.change(insert(txId));
  return copy.out().map(({ transaction, table }) => [transaction.txId, table.replica]);
}

test("what the stream brings late of what the copy contains is for nobody, or for all but the replica that had asked for it", () => {
  for (const [replica, marks] of [
    [null, { replica: "" }],
    ["new", { notReplica: "new" }],
  ] as const) {
    const job = {
      request: replica === null ? INITIAL : "asked",
      oid: 7,
      name: { schema: "public", table: "t" },
      replica,
      range: WHOLE,
    };
    const copy = new KeylessCopy(job, WAITING);
    copy.arrive(MARK, SCHEMA);
    copy.found({ snapshot: { end: 100n, underWay: new Set() }, schema: SCHEMA }, []);
    expect(copy.out()).toEqual([]);
    expect(copy.change(insert(99))?.table).toMatchObject(marks);
    expect(copy.change(insert(100))?.table).toBe(TABLE);
  }
});

test("what the copy contains is not published, but every replica gets past its place", () => {
  expect(followers(150, 160)).toEqual([
    [150, undefined],
    [160, undefined],
  ]);
  expect(followers(50, 150)).toEqual([[150, undefined]]);
  // The slot may tell 51 again: without a place behind it, it would be applied on top of the copy.
  expect(followers(50, 51)).toEqual([[51, ""]]);
  expect(followers(150, 51)).toEqual([
    [150, undefined],
    [51, ""],
  ]);
});

test("once a former life may have emptied the table for a replica, changes before the new mark go to the others alone", () => {
  const job = { request: "asked", oid: 7, name: { schema: "public", table: "t" }, range: WHOLE };
  const changed = (replica: string | null, begun: boolean) =>
    new KeylessCopy({ ...job, replica }, { ...WAITING, begun }).change(insert(150));
  expect(changed("mine", false)?.table).toEqual(TABLE);
  expect(changed("mine", true)?.table).toEqual({ ...TABLE, notReplica: "mine" });
  expect(changed(null, true)).toBeNull();
});

const OTHERWISE = identifySchema({ schema: "public", table: "u", oid: 7, columns: [], key: [], identity: "full" });
const looks = (schema: TableSchema, news: { readonly rewritten?: true } = {}) =>
  ({ kind: "schema", topic: TABLE.topic, schema, at: { commitLsn: 9n, ordinal: 0 }, change: true, ...news }) as const;
const LEFT = { kind: "left", schema: "public", table: "t", oid: 7 } as const;
const SNAPSHOT = { end: 100n, underWay: new Set<bigint>() };

test("where the table looks otherwise what was held goes out before that is told, and the copy is made anew", () => {
  const job = { request: "asked", oid: 7, name: { schema: "public", table: "t" }, replica: "mine", range: WHOLE };
  const copy = new KeylessCopy(job, WAITING);
  expect(copy.altered(looks(OTHERWISE))).toEqual([]);
  copy.arrive(MARK, SCHEMA);
  copy.change(insert(150));
  expect(copy.altered(looks(SCHEMA))).toEqual([]);
  expect(copy.wasAltered).toBe(false);
  expect(copy.altered(looks(OTHERWISE))).toEqual([insert(150)]);
  expect([copy.wasAltered, copy.heldChars]).toEqual([true, 0]);
  expect(copy.change(insert(151))).toEqual(insert(151));
  expect(copy.found({ snapshot: SNAPSHOT, schema: SCHEMA }, [])).toBe(false);
});

test("once it has begun, what was held is for the others alone: the replica gets them with the copy that is made anew", () => {
  const job = { request: "asked", oid: 7, name: { schema: "public", table: "t" }, replica: "mine", range: WHOLE };
  const copy = new KeylessCopy(job, { ...WAITING, begun: true });
  copy.arrive(MARK, SCHEMA);
  copy.found({ snapshot: SNAPSHOT, schema: SCHEMA }, []);
  copy.change(insert(150));
  const others = { ...TABLE, notReplica: "mine" };
  expect(copy.altered(LEFT).map(({ table }) => table)).toEqual([others]);
  expect(copy.change(insert(151))?.table).toEqual(others);
});

test("rows that were written anew, unseen, are other rows, although the table looks the same", () => {
  const job = { request: "asked", oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const copy = new KeylessCopy(job, { ...WAITING, begun: true });
  copy.arrive(MARK, SCHEMA);
  copy.change(insert(150));
  expect(copy.altered(looks(SCHEMA, { rewritten: true }))).toEqual([]);
  expect([copy.wasAltered, copy.change(insert(151))]).toEqual([true, null]);
});

test("a first copy says up to where changes are in no topic, for the slot may tell them again", () => {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const copy = new KeylessCopy(job, WAITING);
  expect(copy.change({ ...insert(0), transaction: transaction(0) })).toBeNull();
  expect(copy.contains).toBe(0n);
  copy.arrive(MARK, SCHEMA);
  copy.change(insert(150));
  // Made anew, it has all of these; done, those before its mark: what it held is out.
  expect([copy.contains, copy.afresh().contains]).toEqual([150n, 150n]);
  expect(copy.altered(looks(OTHERWISE))).toEqual([]);
  const fresh = copy.afresh();
  fresh.arrive(MARK, SCHEMA);
  fresh.found({ snapshot: SNAPSHOT, schema: SCHEMA }, []);
  fresh.change(insert(160));
  expect(fresh.out()).toHaveLength(1);
  expect(fresh.state.contains).toBe(1n);
});
