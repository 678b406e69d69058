import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { eventEncoder } from "@cascade/shared/event-writer";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { historyOf, memoryReplica, tableBook } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import { sqliteDialect } from "./dialects/sqlite.ts";
import type { EventBatch } from "./event-consumer.ts";
import { Ownership } from "./ownership.ts";
import { ProgressBook } from "./progress-book.ts";
import type { Progress, RememberedTable } from "./replica.ts";
import { SchemaHistory } from "./schema-history.ts";
import { type Step, type TurnOptions, turn } from "./turn.ts";

const column = (name: string, attnum: number) => ({
  name,
  attnum,
  type: "integer",
  typeOid: 23,
  typmod: -1,
  nullable: true,
  default: null,
  generated: false,
});
const schemaWith = (...names: readonly string[]): TableSchema =>
  identifySchema({
    schema: "public",
    table: "t",
    oid: 1,
    columns: names.map((name, at) => column(name, at + 1)),
    key: ["id"],
    identity: "default",
  });
const older = schemaWith("id", "a");
const newer = schemaWith("id", "a", "b");
const partition = { topic: "cascade.public.t", partition: 0 };
const encode = eventEncoder("cascade", "app");

interface Change {
  readonly at: readonly [commitLsn: bigint, ordinal: number];
  readonly after: object;
  readonly schema?: TableSchema;
  /** For this one alone. */
  readonly replica?: string;
}

function batchOf(changes: readonly (Change | string | null)[], firstOffset = 0n): EventBatch {
  const values = changes.map((change) => {
    if (change === null || typeof change === "string") return change;
    const { at, after, schema = older, replica } = change;
    const event: ChangeEvent = {
      op: "c",
      table: { schema: "public", table: "t", topic: partition.topic, schemaId: schema.id, ...(replica && { replica }) },
      transaction: { txId: 1, commitLsn: at[0], committedAtMs: 1000 + Number(at[0]) },
      ordinal: at[1],
      lsn: 0n,
      key: null,
      before: null,
      after: JSON.stringify(after),
    };
    return encode(event, 0);
  });
  return {
    partition,
    table: { schema: "public", table: "t" },
    events: values.map((value, at) => ({ offset: firstOffset + BigInt(at), key: null, value })),
    nextOffset: firstOffset + BigInt(changes.length),
    bytes: 0,
    lagEvents: 0n,
    traceParents: [],
  };
}

interface Sharded extends Pick<TurnOptions, "ownership" | "claim"> {
  readonly history?: SchemaHistory;
  readonly remembered?: RememberedTable | null;
}

/** @param remembered the replica has it as it is there */
async function turned(
  batch: EventBatch,
  progress: Progress | null,
  known: readonly TableSchema[] = [older, newer],
  { history = new SchemaHistory(), remembered = null as RememberedTable | null, ...shard }: Sharded = {},
) {
  const book = new ProgressBook({ progress: async () => progress });
  await book.resume(partition);
  const { replica, prepared, changes, tables: all } = memoryReplica(progress);
  if (remembered !== null) all.set(remembered.oid, remembered);
  const tables = tableBook(replica, { history, moved: (advance) => book.moved(advance) });
  const schemas = {
    history,
    settle: async () => {},
    known: (id: string) => known.find((schema) => schema.id === id),
    get: async (id: string) => {
      throw new CascadeError({ code: "UNKNOWN_SCHEMA", verdict: "stop-table", message: id, advice: "" });
    },
    [Symbol.asyncDispose]: async () => {},
  };
  let asked = 0;
  const copies = { askAgain: async () => void asked++ };
  const options = { replicaName: "mine", dialect: sqliteDialect, schemas, tables, progress: book, copies, ...shard };
  const steps: Step[] = [];
  for (let rest: EventBatch | null = batch; rest !== null; rest = steps.at(-1)?.rest ?? null) {
    const step: Step = await turn(rest, options);
    book.moved(step.advance);
    steps.push(step);
  }
  const rows = steps.flatMap(({ work }) => work.statements.map(({ parameterSets }) => parameterSets));
  return { step: steps.at(-1) as Step, steps, prepared, changes, rows, asked };
}

test("a batch becomes one step from what the replica has to its last event", async () => {
  const { step, rows } = await turned(
    batchOf([
      { at: [5n, 0], after: { id: 1, a: 2 } },
      { at: [5n, 1], after: { id: 2, a: 3 } },
    ]),
    null,
  );
  expect(rows).toEqual([
    [
      [1, 2],
      [2, 3],
    ],
  ]);
  expect(step.advance).toEqual({
    partition,
    from: { nextOffset: 0n, commitLsn: 0n, ordinal: 0, sourceCommittedAtMs: 0 }, // of making the table
    to: { nextOffset: 2n, commitLsn: 5n, ordinal: 1, sourceCommittedAtMs: 1005 },
  });
});

test("where a table is made nothing of the batch is passed yet: it may be tried again in smaller parts", async () => {
  const others = { at: [5n, 0], after: { id: 1, a: 2 }, replica: "another" } as const;
  const { step } = await turned(batchOf([others, { at: [5n, 1], after: { id: 2, a: 3 } }], 7n), null);
  expect(step.advance).toMatchObject({
    from: { nextOffset: 7n, commitLsn: 0n },
    to: { nextOffset: 9n, commitLsn: 5n, ordinal: 1 },
  });
});

test("events at or before the replica's position, and twice published ones, come to nothing", async () => {
  const from = { nextOffset: 3n, commitLsn: 5n, ordinal: 1, sourceCommittedAtMs: 1005 };
  const replay = batchOf(
    [
      { at: [4n, 9], after: { id: 1, a: 0 } },
      { at: [5n, 1], after: { id: 1, a: 0 } },
      { at: [5n, 2], after: { id: 1, a: 1 } },
      { at: [5n, 2], after: { id: 1, a: 7 } },
      { at: [5n, 1], after: { id: 1, a: 8 } },
      { at: [6n, 0], after: { id: 2, a: 2 } },
    ],
    3n,
  );
  const { step, rows } = await turned(replay, from);
  expect(rows).toEqual([
    [
      [1, 1],
      [2, 2],
    ],
  ]);
  expect(step.advance).toMatchObject({ from, to: { nextOffset: 9n, commitLsn: 6n, ordinal: 0 } });
});

test("what comes late in a topic that its table has left since comes to nothing; another table may have the name", async () => {
  const renamed = changed(older, { table: "u" });
  const another = changed(older, { oid: 2 });
  const batch = batchOf([
    { at: [4n, 0], after: { id: 1, a: 1 } },
    { at: [7n, 0], after: { id: 2, a: 2 }, schema: another },
  ]);
  const history = historyOf([older, 1n], [renamed, 5n], [another, 6n], [changed(renamed, { identity: "full" }), 8n]);
  const at = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
  const remembered = { oid: 1, schema: renamed, named: renamed, revision: 1, awaiting: null, at: at(8n) };
  const schemas = [older, renamed, another];
  const { step, rows } = await turned(batch, null, schemas, { history, remembered });
  expect(rows).toEqual([[[2, 2]]]);
  expect(step.advance.to).toMatchObject({ nextOffset: 2n, commitLsn: 7n });
  // What came late is passed: the message before the offset would else look newer than what was applied there.
  const late = batchOf([
    { at: [2n, 0], after: { id: 2, a: 2 }, schema: another },
    { at: [4n, 0], after: { id: 1, a: 1 } },
  ]);
  const passed = await turned(late, null, schemas, { history, remembered });
  expect(passed.step.advance.to).toMatchObject({ nextOffset: 2n, commitLsn: 4n });
  const before = await turned(batch, null, schemas, {
    history,
    remembered: { ...remembered, schema: older, named: older, at: at(1n) },
  });
  expect(before.rows).toEqual([[[1, 1]], [[2, 2]]]);
});

test("while a table waits for its copy nothing of it is applied, and whoever has its events sees to it that the copy is asked for", async () => {
  const remembered = { oid: 1, schema: older, named: older, revision: 1, awaiting: "copy", at: { commitLsn: 1n, ordinal: 0 } };
  const batch = batchOf([{ at: [4n, 0], after: { id: 1, a: 1 } }]);
  const waiting = await turned(batch, null, [older], { history: historyOf([older, 1n]), remembered });
  expect([waiting.rows, waiting.asked, waiting.step.advance.to.nextOffset]).toEqual([[], 1, 1n]);
  expect((await turned(batch, null)).asked).toBe(0);
});

test("with nothing new only the offset moves", async () => {
  const from = { nextOffset: 3n, commitLsn: 5n, ordinal: 1, sourceCommittedAtMs: 1005 };
  const { step, rows } = await turned(batchOf([{ at: [5n, 0], after: { id: 1, a: 0 } }, null], 3n), from);
  expect(rows).toEqual([]);
  expect(step.advance.to).toEqual({ ...from, nextOffset: 5n });
});

test("rows are written under the schema they name, in order", async () => {
  const batch = batchOf([
    { at: [1n, 0], after: { id: 1, a: 1 } },
    { at: [2n, 0], after: { id: 1, a: 2, b: 3 }, schema: newer },
    { at: [3n, 0], after: { id: 2, a: 4, b: 5 }, schema: newer },
  ]);
  const { prepared, rows, steps, changes } = await turned(batch, null);
  expect(prepared).toEqual([older.id, newer.id]);
  expect(changes).toEqual(["create 1 as t", "alter 1 as t"]);
  expect(steps.map(({ advance }) => [advance.from?.nextOffset, advance.to.nextOffset])).toEqual([
    [0n, 1n],
    [1n, 3n],
  ]);
  expect(rows).toEqual([
    [[1, 1]],
    [
      [1, 2, 3],
      [2, 4, 5],
    ],
  ]);
});

test("a schema that nobody knows and a message that is none stop the table", async () => {
  await expect(turned(batchOf([{ at: [1n, 0], after: { id: 1, a: 1 } }]), null, [])).rejects.toMatchObject({
    code: "UNKNOWN_SCHEMA",
  });
  await expect(turned(batchOf(["{"]), null)).rejects.toMatchObject({ code: "MALFORMED_MESSAGE", verdict: "stop-table" });
});

test("a row that names another table's schema is not written there", async () => {
  const schema = identifySchema({ ...older, table: "other" });
  const stray = turned(batchOf([{ at: [1n, 0], after: { id: 1, a: 1 }, schema }]), null, [schema]);
  await expect(stray).rejects.toMatchObject({ code: "MALFORMED_EVENT", message: expect.stringContaining("public.other") });
});

test("in order every mutation is a statement of its own", async () => {
  const { step } = await turned(
    batchOf([
      { at: [5n, 0], after: { id: 1, a: 2 } },
      { at: [5n, 1], after: { id: 1, a: 3 } },
    ]),
    null,
  );
  expect(step.work.statements).toHaveLength(1);
  expect(step.work.inOrder().map(({ parameterSets }) => parameterSets)).toEqual([[[1, 2]], [[1, 3]]]);
});

test("rows that are another shard's are no events of ours, and are passed all the same; their time is told", async () => {
  const ownership = Ownership.parse("public.t=id:10..");
  const [others, ours] = [
    { at: [5n, 0], after: { id: 1, a: 2 } },
    { at: [6n, 0], after: { id: 10, a: 3 } },
  ] as const;
  const { step, rows } = await turned(batchOf([others, ours]), null, [older], { ownership });
  expect(rows).toEqual([[[10, 3]]]);
  expect(step.events.map(({ after }) => after)).toEqual([ours.after]);
  expect(step.oldestAtMs).toBe(1005);
  expect(step.advance.to).toMatchObject({ nextOffset: 2n, commitLsn: 6n });
  const none = await turned(batchOf([others]), null, [older], { ownership });
  expect(none.step).toMatchObject({ events: [], oldestAtMs: 1005, advance: { to: { nextOffset: 1n, commitLsn: 5n } } });
});

test("whether the rules are still the replica's is asked before a row of a schema is turned", async () => {
  const refuse = async ({ id }: TableSchema): Promise<void> => {
    if (id === newer.id) throw new CascadeError({ code: "SHARD_CHANGED", verdict: "refuse", message: "", advice: "" });
  };
  const changes = [
    { at: [5n, 0], after: { id: 1, a: 2 } },
    { at: [7n, 0], after: { id: 3, a: 2, b: 1 }, schema: newer },
  ] as const;
  const options = { ownership: Ownership.parse("0/1"), claim: { agree: refuse } };
  expect((await turned(batchOf(changes.slice(0, 1)), null, [older, newer], options)).rows).toEqual([[[1, 2]]]);
  const refused = turned(batchOf(changes), null, [older, newer], options);
  await expect(refused).rejects.toMatchObject({ code: "SHARD_CHANGED", verdict: "refuse" });
});
