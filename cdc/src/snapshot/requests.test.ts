import { expect, test } from "bun:test";
import { identifySchema } from "@cascade/shared/table-schema";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { Requests } from "./requests.ts";
import type { SignalLog, SignalMessage } from "./signal-log.ts";
import { encodeState, lifeOf, stateKey, takeSignal } from "./signals.ts";
import { Snapshotter } from "./snapshotter.ts";
import type { CopyTable } from "./table-reader.ts";

const schema = identifySchema({ schema: "public", table: "t", oid: 7, columns: [], key: [], identity: "default" });
const TABLE: CopyTable = { schema, estimatedRows: null, bytes: 0 };
const nothing = () => undefined;
const report = {
  waiting: nothing,
  begins: nothing,
  progress: nothing,
  ended: nothing,
  replaced: nothing,
  refused: nothing,
  accepted: nothing,
  warn: nothing,
};

/** One start of cdc, where `tables` are captured and these OIDs are tables. Resolves to what is to be copied. */
async function copiesOf(
  messages: Map<string, string>,
  tables: readonly CopyTable[],
  there: readonly number[] = [7],
): Promise<readonly { readonly oid: number; readonly empties: boolean }[]> {
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
  const snapshotter = new Snapshotter({ openReader, log, report, initial: true });
  const existing = async (oids: readonly number[]) => new Set(oids.filter((oid) => there.includes(oid)));
  await new Requests({ log, report, snapshotter, tables: async () => tables, existing, initial: true }).resume();
  return snapshotter.copies.all.map(({ job, state }) => ({ oid: job.oid, empties: state.empties }));
}

test("a table that was not captured for a while is copied again: its changes of then are in no topic", async () => {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const messages = new Map([[stateKey(INITIAL, 7), encodeState(job, { ...WAITING, status: "done" }, 1)]]);
  expect(await copiesOf(messages, [TABLE])).toEqual([]);
  expect(await copiesOf(messages, [])).toEqual([]);
  expect(await copiesOf(messages, [])).toEqual([]);
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: true }]);
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: true }]);
});

test("a table that is new is copied into what is there; nothing is kept of one that is gone", async () => {
  const messages = new Map<string, string>();
  expect(await copiesOf(messages, [TABLE])).toEqual([{ oid: 7, empties: false }]);
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  messages.set(stateKey(INITIAL, 7), encodeState(job, { ...WAITING, status: "done" }, 1));
  expect(await copiesOf(messages, [], [])).toEqual([]);
  expect(messages.size).toBe(0);
});

const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
const stateOf = (status: "copying" | "done", life: number): SignalMessage => ({
  key: stateKey(INITIAL, 7),
  value: encodeState(job, { ...WAITING, status }, life),
});

test("what a former cdc says late of a copy, when another has written, says nothing", () => {
  const messages = new Map<string, string>();
  for (const { key, value } of [stateOf("copying", 1), stateOf("copying", 2), stateOf("done", 1)])
    takeSignal(messages, key, value);
  expect([...messages.values()]).toEqual([stateOf("copying", 2).value as string]);
  for (const { key, value } of [stateOf("done", 2)]) takeSignal(messages, key, value);
  expect([...messages.values()]).toEqual([stateOf("done", 2).value as string]);
});

/** A log that gives back what is written to it, after what others have written since it was opened. */
function sharedLog(found: readonly SignalMessage[], others: readonly SignalMessage[]) {
  const messages = new Map<string, string>();
  for (const { key, value } of found) takeSignal(messages, key, value);
  const news = [...others];
  const written: SignalMessage[] = [];
  const log: SignalLog = {
    messages,
    next: async () => news.splice(0),
    write: async (given) => {
      written.push(...given);
      news.push(...given);
    },
    [Symbol.asyncDispose]: async () => {},
  };
  const openReader = () => Promise.reject(new Error("not read"));
  const snapshotter = new Snapshotter({ openReader, log, report, initial: true });
  const existing = async (oids: readonly number[]) => new Set(oids);
  const requests = new Requests({ log, report, snapshotter, tables: async () => [TABLE], existing, initial: true });
  return { requests, written };
}

test("a cdc that has the slot writes down anew what is to be copied, in a life of its own", async () => {
  const { requests, written } = sharedLog([stateOf("copying", 4)], [stateOf("done", 3)]);
  await requests.resume();
  await requests.claim(new AbortController().signal);
  expect(written.slice(0, 2).map(({ value }) => lifeOf(value ?? ""))).toEqual([5, 5]);
  expect(written[1]).toEqual(stateOf("copying", 5));
});

test("a cdc that another has overtaken since it read how far copies are reads again", async () => {
  const { requests } = sharedLog([stateOf("copying", 4)], [stateOf("done", 5)]);
  await requests.resume();
  await expect(requests.claim(new AbortController().signal)).rejects.toMatchObject({
    code: "SNAPSHOTS_OVERTAKEN",
    verdict: "retry",
  });
});
