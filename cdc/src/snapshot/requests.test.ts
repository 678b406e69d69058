import { expect, test } from "bun:test";
import { identifySchema } from "@cascade/shared/table-schema";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { Requests } from "./requests.ts";
import type { SignalLog } from "./signal-log.ts";
import { encodeState, stateKey } from "./signals.ts";
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
  await new Requests({ log, report, snapshotter, tables: async () => tables, existing, initial: true, anew: false }).resume();
  return snapshotter.copies.all.map(({ job, state }) => ({ oid: job.oid, empties: state.empties }));
}

test("a table that was not captured for a while is copied again: its changes of then are in no topic", async () => {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const messages = new Map([[stateKey(INITIAL, 7), encodeState(job, { ...WAITING, status: "done" })]]);
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
  messages.set(stateKey(INITIAL, 7), encodeState(job, { ...WAITING, status: "done" }));
  expect(await copiesOf(messages, [], [])).toEqual([]);
  expect(messages.size).toBe(0);
});
