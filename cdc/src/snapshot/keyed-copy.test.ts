import { expect, test } from "bun:test";
import type { EventTable } from "@cascade/shared/change-event";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import type { SourceMark } from "../change-source.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { KeyedCopy } from "./keyed-copy.ts";
import type { OpenChunk } from "./open-chunk.ts";
import type { ChunkRows } from "./table-reader.ts";

const column = (name: string, attnum: number) => columnSchema(name, "integer", { attnum, nullable: false });
const keyedBy = (...key: readonly string[]): TableSchema =>
  identifySchema({ schema: "public", table: "t", oid: 7, columns: [column("id", 1), column("n", 2)], key, identity: "default" });
const SCHEMA = keyedBy("id");
const TABLE: EventTable = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: SCHEMA.id };
const SNAPSHOT = { end: 100n, underWay: new Set<bigint>() };
const transaction = { txId: 200, commitLsn: 1n, committedAtMs: 0 };
const MARK: SourceMark = { kind: "mark", prefix: "", content: "", transaction, ordinal: 0, lsn: 0n, table: TABLE };

const copyOf = () => {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  return new KeyedCopy(job, WAITING);
};

function begun(copy: KeyedCopy): OpenChunk {
  const plan = copy.next();
  if (plan === null || plan === "done") throw new Error("nothing to read");
  const chunk = copy.begin(plan, []);
  expect(copy.found(chunk, { snapshot: SNAPSHOT, schema: SCHEMA })).toBe(true);
  return chunk;
}

function arrived(copy: KeyedCopy, rows: ChunkRows): void {
  const chunk = begun(copy);
  copy.read(chunk, rows);
  expect(copy.arrive(chunk, MARK, SCHEMA)).not.toBeNull();
}

test("a key that was read again is written down until its row is durable", () => {
  const copy = copyOf();
  arrived(copy, { rows: [['{"id":1}', '{"id":1,"n":1}']], last: true });
  copy.published();
  const moved = { op: "u" as const, table: TABLE, transaction, ordinal: 1, lsn: 0n };
  expect(copy.change({ ...moved, key: '{"id":9}', before: '{"id":8}', after: '{"id":9}' }, SCHEMA)).toBe(true);
  arrived(copy, { rows: [['{"id":9}', '{"id":9,"n":1}']], last: true });
  expect(copy.state.reread).toEqual(['{"id":9}']);
  copy.published();
  expect(copy.state.reread).toEqual([]);
});

test("what was read under a former key is nothing to the copy that begins anew under another", () => {
  const copy = copyOf();
  arrived(copy, { rows: [['{"id":5}', '{"id":5,"n":5}']], last: false });
  const plan = copy.next();
  if (plan === null || plan === "done") throw new Error("nothing to read");
  const changed = { snapshot: SNAPSHOT, schema: keyedBy("n") };
  expect(copy.found(copy.begin(plan, []), changed)).toBe(false);
  expect(copy.found(copy.begin({ kind: "range", after: null }, []), changed)).toBe(true);
  copy.published();
  expect(copy.state.after).toBeNull();
});
