import { expect, test } from "bun:test";
import { identifySchema } from "@cascade/shared/table-schema";
import { ProgressBook } from "./progress-book.ts";
import { ReplicaTables } from "./replica-tables.ts";

const partition = { topic: "cascade.public.t", partition: 0 };
const progress = (nextOffset: bigint) => ({ nextOffset, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: 0 });

test("progress is what the replica said, until a commit moves it or it is read again", async () => {
  let stored: ReturnType<typeof progress> | null = null;
  const book = new ProgressBook({ progress: async () => stored });
  expect(() => book.current(partition)).toThrow("was not read");
  expect(await book.resume(partition)).toBeNull();
  expect(book.current(partition)).toBeNull();
  book.moved({ partition, from: null, to: progress(5n) });
  expect(book.current(partition)?.nextOffset).toBe(5n);
  stored = progress(9n);
  expect(await book.resume(partition)).toBe(9n);
  expect(book.current(partition)).toEqual(progress(9n));
  expect(() => book.current({ ...partition, partition: 1 })).toThrow("was not read");
});

test("a table is prepared once per schema, and again after it was forgotten", async () => {
  const schema = (table: string) => identifySchema({ schema: "public", table, oid: 1, columns: [], key: [], identity: "full" });
  const prepared: string[] = [];
  const tables = new ReplicaTables({
    prepare: async (source) => {
      prepared.push(source.table);
      return { source, sqlName: source.table, columns: [], referenced: false };
    },
  });
  for (const table of ["a", "b", "a"]) await tables.get(schema(table), true, 0);
  expect(prepared).toEqual(["a", "b"]);
  tables.forget({ schema: "public", table: "a" });
  for (const table of ["a", "b"]) await tables.get(schema(table), true, 4_999);
  expect(prepared).toEqual(["a", "b", "a"]);
  await tables.get(schema("b"), true, 5_000);
  expect(prepared).toEqual(["a", "b", "a", "b"]);
});
