import { expect, test } from "bun:test";
import type { EventMarks, ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import { NO_MARKS } from "@cascade/shared/testing/event-marks";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import type { HeldKey } from "./held-keys.ts";
import { keysOfEvent } from "./held-keys.ts";
import { takeArrived, upToMeeting } from "./meeting.ts";
import type { Advance, Progress } from "./replica.ts";

const COUNT = 3;
const schema = tableSchema("t", { id: "integer", v: "text", big: "text" });

const event = (
  op: ReceivedEvent["op"],
  at: number,
  rows: { readonly before?: WireRow; readonly after?: WireRow } = {},
  marks: Partial<EventMarks> | null = null,
): ReceivedEvent => ({
  ...{ op, before: rows.before ?? null, after: rows.after ?? null, schemaId: schema.id, committedAtMs: 0 },
  ...{ commitLsn: BigInt(at), ordinal: 0, marks: marks === null ? null : { ...NO_MARKS, ...marks } },
});
const put = (at: number): ReceivedEvent => event("c", at, { after: { id: at, v: "", big: "" } });

/** Partition 0, where the others are at those positions. */
function lab(others: readonly (number | null)[], held: readonly HeldKey[] = []) {
  const at = (commitLsn: number): Progress => ({
    commitLsn: BigInt(commitLsn),
    ordinal: -1,
    nextOffset: 1n,
    sourceCommittedAtMs: 0,
  });
  const own = { topic: "cascade.public.t", partition: 0 };
  const reached: Advance[] = [];
  const history = historyOf([schema, 1n]);
  history.learn({ kind: "schema", schema, at: { commitLsn: 1n, ordinal: 0 }, rewritten: false, partitions: COUNT });
  const { replica } = memoryReplica();
  const tables = tableBook(
    {
      ...replica,
      apply: async (_, advance) => void reached.push(advance),
      progress: async ({ partition }) => {
        const position = partition === 0 ? 0 : (others[partition - 1] ?? null);
        return position === null ? null : at(position);
      },
      progressOf: async () => new Map(others.flatMap((position, n) => (position === null ? [] : [[n + 1, at(position)]]))),
      held: async () => held,
    },
    { history },
  );
  const place = () => ({ partition: own, from: at(0), nextOffset: 1n });
  const meet = (events: readonly ReceivedEvent[], isFirst = true) => upToMeeting(events, { schema, place, isFirst }, { tables });
  return { meet, reached };
}

test("what concerns one partition goes with the rest, up to what concerns others, which is the first of a step", async () => {
  const { meet } = lab([null, null]);
  const [truncate, rows] = [event("t", 5), [put(2), put(3)]];
  expect(await meet([...rows, truncate, put(6)])).toMatchObject({ events: rows, renews: false, hasMet: false });
  expect(await meet([truncate, put(6)], false)).toMatchObject({ events: [], hasMet: false });
  expect(await meet(rows)).toMatchObject({ events: rows });
});

test("a truncate waits for all partitions, and says that it has nothing from before", async () => {
  for (const others of [
    [5, null],
    [5, 4],
  ]) {
    const { meet, reached } = lab(others);
    await expect(meet([event("t", 5)])).rejects.toMatchObject({ code: "WAITING" });
    expect(reached.map(({ to }) => [to.commitLsn, to.ordinal])).toEqual([[5n, -1]]);
  }
});

test("then one does it, alone in its step, and those that come after it do not", async () => {
  const truncate = event("t", 5);
  expect(await lab([5, 5]).meet([truncate, put(6)])).toMatchObject({ events: [truncate], done: null, renews: true });
  const { events, done, renews } = await lab([5, 6]).meet([truncate, put(6), event("t", 7)]);
  expect([events.length, done, renews]).toEqual([2, truncate, false]);
});

const gone = event("d", 5, { before: { id: 1 } }, { movedTo: 2 });
const came = event("u", 5, { before: { id: 1 }, after: { id: 9, v: "x" } }, { movedFrom: 2 });

test("a row that comes without all of its columns waits for its old partition, which waits for it", async () => {
  await expect(lab([9, 4]).meet([came])).rejects.toMatchObject({ code: "WAITING" });
  expect(await lab([0, 5]).meet([came, put(6)])).toMatchObject({ done: null, renews: false, hasMet: true });
  await expect(lab([9, 5]).meet([gone])).rejects.toMatchObject({ code: "WAITING" });
  expect(await lab([0, 6]).meet([gone, put(6)])).toMatchObject({ events: [gone, put(6)], done: null });
});

test("where its coming is held back, the old row stays", async () => {
  const [key] = keysOfEvent(schema, gone) ?? [];
  const heldAt = (commitLsn: bigint) => ({ id: key?.id, last: { commitLsn, ordinal: 0 } }) as HeldKey;
  expect(await lab([0, 6], [heldAt(5n)]).meet([gone])).toMatchObject({ done: gone });
  // What was held before says nothing of this one.
  expect(await lab([0, 6], [heldAt(4n)]).meet([gone])).toMatchObject({ done: null });
});

test("a row that comes whole waits for nothing, and leaves its old key alone", async () => {
  const whole = event("u", 5, { before: { id: 1, v: "a", big: "b" }, after: { id: 9, v: "x" } }, { movedFrom: 2 });
  const run = { schemaId: schema.id, start: 0, events: [whole, put(6)] };
  const all = [put(4), whole, put(6)];
  takeArrived(run, schema, all);
  const taken = { op: "u", before: null, after: { id: 9, v: "x", big: "b" } };
  expect([run.events[0], all[1]]).toEqual([expect.objectContaining(taken), expect.objectContaining(taken)]);
  expect(run.events[0]).toBe(all[1] as ReceivedEvent);
  expect(await lab([null, null]).meet(run.events)).toMatchObject({ events: run.events, hasMet: false });
  const partial = { ...run, events: [came] };
  takeArrived(partial, schema, [came]);
  expect(partial.events).toEqual([came]);
});

test("a schema waits for all partitions, also one that comes back", async () => {
  const wider = changed(schema, {
    table: "t",
    columns: [...schema.columns, { ...(schema.columns[1] as (typeof schema.columns)[number]), name: "w", attnum: 9 }],
  });
  const history = historyOf([schema, 1n], [wider, 10n], [schema, 20n]);
  history.learn({ kind: "schema", schema, at: { commitLsn: 20n, ordinal: 0 }, rewritten: false, partitions: 2 });
  const { replica, tables: remembered } = memoryReplica();
  let other: Progress | null = null;
  const own = { topic: "cascade.public.t", partition: 0 };
  const tables = tableBook(
    { ...replica, progressOf: async () => new Map(other === null ? [] : [[1, other]]) },
    { history, ends: async () => new Map([[1, 7n]]) },
  );
  remembered.set(schema.oid, {
    oid: schema.oid,
    schema,
    at: { commitLsn: 1n, ordinal: 0 },
    named: schema,
    revision: 1,
    awaiting: null,
  });
  const place = { partition: own, from: null, nextOffset: 0n };
  const position = { commitLsn: 25n, ordinal: 0 };
  expect(await tables.standing(schema, { commitLsn: 5n, ordinal: 0 }, place)).toMatchObject({ kind: "ready" });
  expect(await tables.standing(schema, position, place)).toMatchObject({ kind: "change" });
  await expect(tables.bring(schema, position, place)).rejects.toMatchObject({ code: "WAITING" });
  // Read to its end, it has nothing more from before.
  other = { commitLsn: 3n, ordinal: 0, nextOffset: 7n, sourceCommittedAtMs: 0 };
  await tables.bring(schema, position, place);
  expect(remembered.get(schema.oid)?.at).toEqual({ commitLsn: 20n, ordinal: 0 });
  expect(await tables.standing(schema, position, place)).toMatchObject({ kind: "ready" });
  // Of one run, what is from before and what is from after are not of one step.
  const run = [put(5), put(15), put(25)];
  expect(tables.beforeReturn(schema, run, remembered.get(schema.oid) as never)).toEqual([put(5)]);
});
