import { expect, test } from "bun:test";
import { identifySchema } from "@cascade/shared/table-schema";
import { SILENT } from "../../test/silent-report.ts";
import type { Copies } from "./copies.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { Requests } from "./requests.ts";
import type { SignalLog } from "./signal-log.ts";
import { decodeState, encodeState, stateKey } from "./signals.ts";
import { Snapshotter } from "./snapshotter.ts";
import type { CopyTable } from "./table-reader.ts";

const schema = identifySchema({ schema: "public", table: "t", oid: 7, columns: [], key: [], identity: "default" });
const TABLE: CopyTable = { schema, estimatedRows: null, bytes: 0 };
const other: CopyTable = { ...TABLE, schema: identifySchema({ ...schema, oid: 8, table: "new" }) };
const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
const done = { ...WAITING, status: "done" } as const;
const half = { ...WAITING, status: "copying", after: '{"id":5}', begun: true, rows: 5 } as const;
const nothing = () => undefined;

/** One start of cdc, where `tables` are captured and these OIDs are tables. Resolves to what is to be copied. */
async function copiesOf(
  messages: Map<string, string>,
  tables: readonly CopyTable[],
  there: readonly number[] = [7],
  anew = false,
  lost: readonly number[] = [],
  announced: readonly CopyTable[] = [],
  initial = true,
): Promise<readonly { readonly oid: number; readonly empties: boolean }[]> {
  const copies = await snapshotterOf(messages, tables, there, anew, lost, announced, initial);
  return copies.all.map(({ job, state }) => ({ oid: job.oid, empties: state.empties }));
}

async function snapshotterOf(
  messages: Map<string, string>,
  tables: readonly CopyTable[] = [TABLE],
  there: readonly number[] = [7],
  anew = false,
  lost: readonly number[] = [],
  announced: readonly CopyTable[] = [],
  initial = true,
): Promise<Copies> {
  const log: SignalLog = {
    messages: new Map(messages),
    next: () => new Promise(nothing),
    write: async (written) => {
      for (const { key, value } of written) {
        if (value === null) messages.delete(key);
        else messages.set(key, value);
      }
    },
    [Symbol.asyncDispose]: async () => {},
  };
  const openReader = () => Promise.reject(new Error("not read"));
  const snapshotter = new Snapshotter({ openReader, log, report: SILENT, initial });
  const existing = async (oids: readonly number[]) => new Set(oids.filter((oid) => there.includes(oid)));
  const options = { log, report: SILENT, snapshotter, tables: async () => tables, existing };
  await new Requests({
    ...options,
    initial,
    anew,
    lost: new Set(lost),
    announced: announced.map((table) => table.schema),
  }).resume();
  return snapshotter.copies;
}

test("a table that was not captured for a while is copied again: its changes of then are in no topic", async () => {
  const messages = new Map([[stateKey(INITIAL, 7), encodeState(job, done)]]);
  expect(await copiesOf(messages, [TABLE])).toEqual([]);
  expect(await copiesOf(messages, [])).toEqual([]);
  expect(await copiesOf(messages, [])).toEqual([]);
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: true }]);
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: true }]);
});

test("so is one that was announced, and left before its copy was begun: replicas may have rows of it", async () => {
  const messages = new Map<string, string>();
  const of = (...tables: CopyTable[]) => copiesOf(messages, tables, [7], false, [], [TABLE]);
  expect(await of(TABLE)).toEqual([{ oid: 7, empties: false }]);
  expect(await of()).toEqual([]);
  expect(await of(TABLE)).toEqual([{ oid: 7, empties: true }]);
  messages.clear();
  await copiesOf(messages, [], [7], false, [], [TABLE], false);
  expect(messages.size).toBe(0); // CDC_SNAPSHOT=never: nobody would ask
});

test("a table that is new is copied into what is there; nothing is kept of one that is gone", async () => {
  const messages = new Map<string, string>();
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: false }]);
  messages.set(stateKey(INITIAL, 7), encodeState(job, done));
  expect(await copiesOf(messages, [], [])).toEqual([]);
  expect(messages.size).toBe(0);
});

test("after lost changes every table is emptied and copied from its beginning, whatever was done or half done; killed then, it still is", async () => {
  for (const state of [done, half]) {
    const messages = new Map([
      [stateKey(INITIAL, 7), encodeState(job, state)],
      [stateKey("asked", 7), encodeState({ ...job, request: "asked", replica: "new" }, half)],
    ]);
    const all = [
      { oid: 7, empties: true },
      { oid: 8, empties: true },
      { oid: 7, empties: false },
    ];
    expect(await copiesOf(messages, [TABLE, other], [7, 8], true)).toEqual(all);
    expect(decodeState(messages.get(stateKey(INITIAL, 7)) ?? "")?.state).toMatchObject({
      status: "waiting",
      after: null,
      begun: false,
    });
    expect(await copiesOf(messages, [TABLE, other], [7, 8])).toEqual(expect.arrayContaining(all));
  }
});

test("a table whose topic was deleted is emptied and copied from its beginning; the others are left alone", async () => {
  for (const state of [done, half]) {
    const messages = new Map([
      [stateKey(INITIAL, 7), encodeState(job, state)],
      [stateKey(INITIAL, 8), encodeState({ ...job, oid: 8 }, done)],
      [stateKey("asked", 7), encodeState({ ...job, request: "asked", replica: "new" }, half)],
    ]);
    const both = [
      { oid: 7, empties: true },
      { oid: 7, empties: false },
    ];
    expect(await copiesOf(messages, [TABLE, other], [7, 8], false, [7])).toEqual(both);
    const { after } = decodeState(messages.get(stateKey(INITIAL, 7)) ?? "")?.state ?? {};
    expect(after).toBeNull();
    expect(await copiesOf(messages, [TABLE, other], [7, 8])).toEqual(expect.arrayContaining(both));
  }
  // Never copied, so nothing that was to be in the topic is known.
  expect(await copiesOf(new Map(), [TABLE], [7], false, [7])).toEqual([{ oid: 7, empties: false }]);
});

test("a copy that is done still says what is in no topic, for the slot may tell that again", async () => {
  const state = { ...done, contains: 0x1_0000_0020n };
  expect(decodeState(encodeState(job, state))?.state).toEqual(state);
  const { contains: _, ...older } = JSON.parse(encodeState(job, done));
  expect(decodeState(JSON.stringify(older))?.state.contains).toBeNull();
  const copies = await snapshotterOf(new Map([[stateKey(INITIAL, 7), encodeState(job, state)]]));
  const table = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: schema.id };
  const event = { op: "c", table, ordinal: 0, lsn: 0n, key: null, before: null, after: "{}" } as const;
  const at = (commitLsn: bigint) =>
    ({ kind: "change", event: { ...event, transaction: { txId: 1, commitLsn, committedAtMs: 0 } } }) as const;
  const merged = copies.merge([{ kind: "table", table, schema }, at(0x1_0000_0020n), at(0x1_0000_0021n)], nothing);
  expect(merged.map(({ kind }) => kind)).toEqual(["table", "change"]);
});
