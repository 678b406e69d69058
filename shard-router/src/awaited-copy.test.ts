import { expect, test } from "bun:test";
import type { ChangeEvent, EventTable } from "@cascade/shared/change-event";
import { eventEncoder } from "@cascade/shared/event-writer";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import { sqliteDialect } from "./dialects/sqlite.ts";
import type { EventBatch } from "./event-consumer.ts";
import { ProgressBook } from "./progress-book.ts";
import type { Progress } from "./replica.ts";
import { type Step, turn } from "./turn.ts";

/** A table that waits for a copy is renamed on main-db after the copy has begun, and the router hears of the name before it reads the rows. */

const a = tableSchema("a", { id: "integer" });
const b = changed(a, { table: "b" });
const encode = eventEncoder("cascade", "app");

interface Sent {
  readonly op: ChangeEvent["op"];
  readonly lsn: bigint;
  readonly id?: number;
  readonly copied?: true;
}

function batchOf(schema: typeof a, sent: readonly Sent[]): EventBatch {
  const { table } = schema;
  const values = sent.map(({ op, lsn, id, copied }) => {
    const eventTable: EventTable = {
      ...{ schema: "public", table, topic: `cascade.public.${table}`, schemaId: schema.id },
      ...(copied ? { replica: "mine", snapshotId: "copy" } : {}),
    };
    const after = id === undefined ? null : JSON.stringify({ id });
    const transaction = { txId: 1, commitLsn: lsn, committedAtMs: 0 };
    return encode({ op, table: eventTable, transaction, ordinal: 0, lsn, key: null, before: null, after }, 0);
  });
  return {
    partition: { topic: `cascade.public.${table}`, partition: 0 },
    table: { schema: "public", table },
    events: values.map((value, at) => ({ offset: BigInt(at), key: null, value })),
    nextOffset: BigInt(sent.length),
    ...{ bytes: 0, lagEvents: 0n, traceParents: [] },
  };
}

const CASES = [
  ["the copy begins where it stands", true],
  ["a truncate for all ends the waiting, too", undefined],
] as const;

test.each(CASES)("%s, and what comes under the new name waits for it", async (_, copied) => {
  const { replica, tables: remembered } = memoryReplica();
  const progresses = new Map<string, Progress>();
  const progressOf = async ({ topic }: { topic: string }) => progresses.get(topic) ?? null;
  const history = historyOf([a, 1n], [b, 50n]);
  remembered.set(a.oid, { oid: a.oid, schema: a, at: { commitLsn: 1n, ordinal: 0 }, named: a, revision: 1, awaiting: "copy" });
  const book = new ProgressBook({ progress: progressOf });
  const before = batchOf(a, [
    { op: "c", lsn: 10n, id: 1 },
    // Of the copy, but not where it begins: Kafka may have lost that, and what came between.
    { op: "r", lsn: 15n, id: 4, copied: true },
    { op: "t", lsn: 20n, ...(copied && { copied }) },
    { op: "r", lsn: 21n, id: 2, ...(copied && { copied }) },
  ]);
  const after = batchOf(b, [{ op: "c", lsn: 60n, id: 3 }]);
  const tables = tableBook(
    { ...replica, progress: progressOf },
    { history, moved: (advance) => book.moved(advance), ends: async () => new Map([[0, 4n]]) },
  );
  const schemas = {
    history,
    settle: async () => {},
    known: (id: string) => [a, b].find((schema) => schema.id === id),
    get: () => Promise.reject(new Error("unknown")),
    [Symbol.asyncDispose]: async () => {},
  };
  const options = { replicaName: "mine", dialect: sqliteDialect, schemas, tables, progress: book };
  const texts: string[] = [];
  const applied = async (batch: EventBatch) => {
    await book.resume(batch.partition);
    for (let rest: EventBatch | null = batch; rest !== null; ) {
      const step: Step = await turn(rest, options);
      book.moved(step.advance);
      progresses.set(batch.partition.topic, step.advance.to);
      for (const { text, parameterSets } of step.work.statements)
        texts.push(`${text.split(" ")[0]} ${(parameterSets ?? []).flat().join()}`);
      rest = step.rest;
    }
  };
  await expect(applied(after)).rejects.toMatchObject({ code: "WAITING" });
  await applied(before);
  await applied(after);
  expect(remembered.get(a.oid)?.awaiting).toBeNull();
  expect(texts).toEqual(["DELETE ", "INSERT 2", "INSERT 3"]);
});

test("a truncate that comes before what Kafka has lost in a later topic does not end the waiting", async () => {
  const { replica, tables: remembered } = memoryReplica();
  const history = historyOf([a, 1n], [b, 50n]);
  const tables = tableBook(replica, { history });
  const of = (topic: string) => ({ topic: `cascade.public.${topic}`, partition: 0 });
  const place = (topic: string) => ({ partition: of(topic), from: null, nextOffset: 9n });
  const isAfterLoss = (topic: string, commitLsn: bigint): boolean => {
    const table = remembered.get(a.oid);
    if (table === undefined) throw new Error("nothing is remembered of it");
    return tables.isAfterLoss(table, { commitLsn, ordinal: 0 }, of(topic));
  };
  await tables.await(a, place("b"));
  expect([isAfterLoss("a", 20n), isAfterLoss("b", 60n)]).toEqual([false, true]);
  // Lost in both, whichever is found first.
  await tables.await(a, place("a"));
  expect([isAfterLoss("a", 20n), isAfterLoss("b", 60n)]).toEqual([false, true]);
  // The table has its former name again.
  history.learn({ kind: "schema", schema: a, at: { commitLsn: 70n, ordinal: 0 }, rewritten: false });
  expect([isAfterLoss("b", 60n), isAfterLoss("a", 80n)]).toEqual([false, true]);
});

test("where rows are divided, no truncate ends the waiting once a partition has lost something", async () => {
  const { replica, tables: remembered } = memoryReplica();
  const history = historyOf([a, 1n]);
  history.learn({ kind: "schema", schema: a, at: { commitLsn: 1n, ordinal: 0 }, rewritten: false, partitions: 3 });
  const tables = tableBook(replica, { history });
  const of = (partition: number) => ({ topic: "cascade.public.a", partition });
  const endsIn = (): readonly boolean[] =>
    [0, 1, 2].map((partition) => {
      const table = remembered.get(a.oid);
      return table !== undefined && tables.isAfterLoss(table, { commitLsn: 20n, ordinal: 0 }, of(partition));
    });
  // One that asked because its rows did not allow a key has lost nothing.
  remembered.set(a.oid, {
    oid: a.oid,
    schema: a,
    at: { commitLsn: 1n, ordinal: 0 },
    named: a,
    revision: 1,
    awaiting: "copy cascade.public.a",
  });
  expect(endsIn()).toEqual([true, true, true]);
  await tables.await(a, { partition: of(1), from: null, nextOffset: 9n });
  expect(endsIn()).toEqual([false, false, false]);
});
