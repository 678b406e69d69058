import { expect, test } from "bun:test";
import { FencedError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { columnSchema, tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import { atEnd } from "./at-end.ts";
import { lostBefore } from "./awaited-copy.ts";
import { type AskedCopy, type AskedTable, AwaitedCopies } from "./copy-requests.ts";
import { KeyRefusedError } from "./key-refused.ts";
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
    requests: { ask: async (copies) => void asked.push(...copies) },
    ends: async () => null,
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

test("a table whose rows do not allow main-db's key is emptied in the same change, and its copy is asked for, once", async () => {
  const keyless = changed(a, { key: [], identity: "full" });
  const history = historyOf([keyless, 1n], [a, 5n]);
  const place = { partition, from: null, nextOffset: 3n };
  const refused: string[] = [];
  const keyRefused = ({ table }: { readonly table: string }) => void refused.push(table);

  const one = refusing(keyless);
  await expect(tableBook(one.replica, { history }).bring(a, at(5n), place)).rejects.toBeInstanceOf(KeyRefusedError);
  expect(one.changes).toEqual([]); // nobody would ask
  const book = tableBook(one.replica, { history, keyRefused });
  let fails = true;
  const asked: string[] = [];
  const copies = new AwaitedCopies({
    tables: book,
    requests: {
      ask: async (copies: readonly AskedCopy[]) => {
        if (fails) throw new Error("Kafka is away");
        asked.push(...copies.map(({ copy }) => copy));
      },
    },
  } as unknown as ConstructorParameters<typeof AwaitedCopies>[0]);
  const looked: (number | undefined)[] = [];
  const held = { isHeld: () => true, mended: () => void looked.push(-1) };
  const ports = {
    ...{ tables: book, copies, status: held, schemas: { settle: async () => {} } },
    consumer: { ends: async () => new Map([[0, 3n]]), lookAtEnd: (_: string, afterMs?: number) => void looked.push(afterMs) },
    progress: new ProgressBook({ progress: async () => null }),
  };
  const batch = { partition, table: a, events: [], nextOffset: 3n, bytes: 0, lagEvents: 0n, traceParents: [] };
  await ports.progress.resume(partition);
  await expect(atEnd(batch, ports)).rejects.toThrow("Kafka is away");
  expect([refused, one.changes, looked]).toEqual([["a"], [`await ${a.oid} as a`, `alter ${a.oid} as a`], []]);
  const { awaiting } = one.tables.get(a.oid) as { awaiting: string };
  expect(lostBefore(awaiting)).toEqual([{ topic: partition.topic, isDivided: false }]);
  fails = false;
  for (let look = 0; look < 2; look++) await atEnd(batch, ports);
  expect([asked, one.changes.length, looked]).toEqual([[awaiting], 2, [-1, -1]]);

  const waiting = refusing(keyless, "a copy"); // which is still to come
  await tableBook(waiting.replica, { history, keyRefused }).bring(a, at(5n), place);
  expect([waiting.changes, waiting.tables.get(a.oid)?.awaiting]).toEqual([[`alter ${a.oid} as a`], "a copy"]);
});

test("the copy of a table that is emptied from the topic of a former name is asked for as well; where nobody takes the new name it is not emptied", async () => {
  const keyless = changed(a, { key: [], identity: "full" });
  const history = historyOf([keyless, 1n], [asB, 5n]);
  const emptiedAtEnd = async (matches: (table: string) => boolean) => {
    const { replica, changes, tables } = refusing(keyless);
    const asked: AskedTable[] = [];
    const book = tableBook(replica, { history, keyRefused: () => {}, matches: ({ table }) => matches(table) });
    const copies = new AwaitedCopies({
      tables: book,
      requests: { ask: async (copies: readonly AskedCopy[]) => void asked.push(...copies.map(({ table }) => table)) },
    } as unknown as ConstructorParameters<typeof AwaitedCopies>[0]);
    const progress = new ProgressBook({ progress: async () => null });
    await progress.resume(partition);
    const consumer = { ends: async () => new Map([[0, 3n]]), lookAtEnd: () => {} };
    const status = { isHeld: () => false, mended: () => {} };
    await atEnd(
      { partition, table: a, events: [], nextOffset: 3n, bytes: 0, lagEvents: 0n, traceParents: [] },
      { tables: book, copies, progress, consumer, status, schemas: { settle: async () => {} } },
    );
    return { asked, changes, topics: lostBefore(tables.get(a.oid)?.awaiting ?? "").map(({ topic }) => topic) };
  };
  const { asked, topics } = await emptiedAtEnd(() => true);
  expect([asked, topics]).toEqual([[{ oid: a.oid, schema: "public", table: "b" }], ["cascade.public.b"]]);
  expect(await emptiedAtEnd((table) => table !== "b")).toEqual({ asked: [], changes: [], topics: [] });
  const direct = refusing(keyless);
  const narrow = tableBook(direct.replica, {
    history: historyOf([keyless, 1n], [a, 5n], [asB, 7n]),
    keyRefused: () => {},
    matches: ({ table }) => table !== "b",
  });
  await expect(narrow.bring(a, at(5n), { partition, from: null, nextOffset: 3n })).rejects.toBeInstanceOf(KeyRefusedError);
  expect(direct.changes).toEqual([]);
});

test("what an engine without transactions had done before the refusal is not done again", async () => {
  const keyless = changed(a, { key: [], identity: "full" });
  const { replica, tables, changes } = refusing(keyless);
  const inTheWay = changed(a, { oid: 2 });
  const elsewhere = changed(inTheWay, { table: "c" });
  tables.set(2, { oid: 2, schema: inTheWay, at: at(1n), named: inTheWay, revision: 1, awaiting: null });
  tables.set(a.oid, { oid: a.oid, schema: keyless, at: at(1n), named: asB, revision: 1, awaiting: null });
  const history = historyOf([keyless, 1n], [inTheWay, 1n], [elsewhere, 4n], [a, 5n]);
  const book = tableBook(replica, { history, keyRefused: () => {} });
  await book.bring(a, at(5n), { partition, from: null, nextOffset: 3n });
  expect(changes).toEqual(["move 2 as cascade moving 2", `await ${a.oid} as b`, `alter ${a.oid} as a`]);
});

test("whoever asks while the requests are under way waits for them; those of tables that are no more are not asked for", async () => {
  const schemas = [1, 2, 3].map((oid) => changed(tableSchema(`t${oid}`, { id: "integer" }), { oid }));
  const { replica, tables } = memoryReplica();
  for (const schema of schemas)
    tables.set(schema.oid, { oid: schema.oid, schema, at: at(1n), named: schema, revision: 1, awaiting: `copy ${schema.oid}` });
  const history = historyOf(...schemas.map((schema) => [schema, 1n] as const));
  history.learn({ kind: "dropped", schema: "public", table: "t3", oid: 3, at: at(4n) });
  const book = tableBook(replica, { history });
  const requests: (readonly string[])[] = [];
  let answer = Promise.withResolvers<void>();
  const copies = new AwaitedCopies({
    tables: book,
    requests: {
      ask: (asked: readonly AskedCopy[]) => {
        requests.push(asked.map(({ copy }) => copy));
        return answer.promise;
      },
    },
  } as unknown as ConstructorParameters<typeof AwaitedCopies>[0]);
  const outcomes = Promise.all([1, 2, 3].map(() => copies.askAgain().then(() => "asked", String)));
  await Bun.sleep(0);
  answer.reject(new Error("away"));
  expect(await outcomes).toEqual(["Error: away", "Error: away", "Error: away"]);
  answer = Promise.withResolvers<void>();
  answer.resolve();
  for (let again = 0; again < 2; again++) await copies.askAgain();
  expect(requests).toEqual([
    ["copy 1", "copy 2"],
    ["copy 1", "copy 2"],
  ]);
});

test("after a refusal a table that another router has changed meanwhile is looked at again first", async () => {
  const keyless = changed(a, { key: [], identity: "full" });
  const wider = changed(a, { columns: [...a.columns, columnSchema("c", "text", { attnum: 2 })] });
  const { replica, tables, changes } = refusing(keyless);
  const overtaken: typeof replica = {
    ...replica,
    change: async (given, advance) => {
      await replica.change(given, advance).finally(() => {
        tables.set(a.oid, { oid: a.oid, schema: wider, at: at(7n), named: a, revision: 5, awaiting: null });
      });
    },
  };
  const history = historyOf([keyless, 1n], [a, 5n], [wider, 7n]);
  const book = tableBook(overtaken, { history, keyRefused: () => {} });
  const brought = book.bring(a, at(5n), { partition, from: null, nextOffset: 3n });
  await expect(brought).rejects.toBeInstanceOf(KeyRefusedError);
  expect([changes, tables.get(a.oid)?.schema]).toEqual([[], wider]);
});

/** A replica whose rows of the table do not allow a key, and whose DDL is no part of a transaction. */
function refusing(keyless: TableSchema, awaiting: string | null = null) {
  const memory = memoryReplica();
  memory.tables.set(a.oid, { oid: a.oid, schema: keyless, at: at(1n), named: keyless, revision: 1, awaiting });
  const replica: typeof memory.replica = {
    ...memory.replica,
    change: async (changes, advance) => {
      for (const change of changes) {
        if (change.kind === "alter" && !change.empties) throw new KeyRefusedError(a, "a");
        if (change.kind !== "create" && change.from.revision !== memory.tables.get(change.from.oid)?.revision)
          throw new FencedError("topic", 0);
        await memory.replica.change([change], advance);
      }
    },
  };
  return { ...memory, replica };
}

const at = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
