import { expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import { type AskedTable, AwaitedCopies } from "./copy-requests.ts";
import { ProgressBook } from "./progress-book.ts";
import type { Progress } from "./replica.ts";
import type { SchemaHistory } from "./schema-history.ts";

/** Kafka has deleted what a replica needs next. */

const a = tableSchema("a", { id: "integer" });
const asB = changed(a, { table: "b" });
const other = changed(a, { oid: 2 });
const partition = { topic: "cascade.public.a", partition: 0 };

async function copiesOf(history: SchemaHistory, matches = (_table: string) => true) {
  const { replica, tables: remembered } = memoryReplica();
  const asked: { readonly copy: string; readonly table: AskedTable }[] = [];
  const progress = new ProgressBook({ progress: async (): Promise<Progress | null> => null });
  await progress.resume(partition);
  const tables = tableBook(replica, {
    history,
    matches: ({ table }) => matches(table),
    moved: (advance) => progress.moved(advance),
  });
  const schemas = { history, settle: async () => {} };
  const copies = new AwaitedCopies({
    schemas: schemas as ConstructorParameters<typeof AwaitedCopies>[0]["schemas"],
    tables,
    progress,
    requests: { ask: async (copy, table) => void asked.push({ copy, table }) },
    warn: () => {},
  });
  const recover = (low: bigint, remembered = progress.current(partition)?.nextOffset ?? null) =>
    copies.recover(partition, a, { low, remembered });
  return { recover, asked, remembered, nextOffset: () => progress.current(partition)?.nextOffset };
}

test("each time Kafka has lost something another copy is waited for: the beginning of the one before may be lost, too", async () => {
  const { recover, asked, remembered, nextOffset } = await copiesOf(historyOf([a, 1n]));
  expect(await recover(5n)).toBe(5n);
  expect(await recover(9n)).toBe(9n);
  expect(asked.map(({ table }) => table.oid)).toEqual([a.oid, a.oid]);
  expect(asked[0]?.copy).not.toBe(asked[1]?.copy as string);
  expect(remembered.get(a.oid)?.awaiting).toBe(asked[1]?.copy as string);
  expect(nextOffset()).toBe(9n);
});

test("where the replica has gone on meanwhile, it is left there", async () => {
  for (const history of [historyOf([a, 1n]), historyOf([a, 1n], [asB, 3n])]) {
    const { recover, asked, nextOffset } = await copiesOf(history, (table) => table !== "b");
    expect(await recover(5n)).toBe(5n);
    const before = asked.length;
    expect(await recover(7n, null)).toBe(5n);
    expect([nextOffset(), asked.length]).toEqual([5n, before]);
  }
});

test("a table that has another name by now is copied as well as the one that has its name", async () => {
  const { recover, asked, nextOffset } = await copiesOf(historyOf([a, 1n], [asB, 3n], [other, 4n]));
  expect(await recover(5n)).toBe(5n);
  expect(asked.map(({ table }) => [table.oid, table.table])).toEqual([
    [a.oid, "b"],
    [other.oid, "a"],
  ]);
  expect(nextOffset()).toBe(5n);
});

test("what a table had that is no more, or is called what this replica does not take, is passed over", async () => {
  const history = historyOf([a, 1n], [asB, 3n], [other, 4n]);
  history.learn({ kind: "dropped", schema: "public", table: "a", oid: other.oid, at: { commitLsn: 5n, ordinal: 0 } });
  const { recover, asked, nextOffset } = await copiesOf(history, (table) => table !== "b");
  expect(await recover(5n)).toBe(5n);
  expect(asked).toEqual([]);
  expect(nextOffset()).toBe(5n);
});

test("of a name that nobody knows nothing can be asked for", async () => {
  const { recover } = await copiesOf(historyOf([asB, 3n]));
  expect(await recover(5n)).toBeNull();
});
