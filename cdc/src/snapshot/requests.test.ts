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
  refused: nothing,
  accepted: nothing,
  warn: nothing,
};

/** One start of cdc, where `tables` are captured. Resolves to how many are to be copied. */
async function copiesOf(messages: Map<string, string>, tables: readonly CopyTable[]): Promise<number> {
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
  await new Requests({ log, report, snapshotter, tables: async () => tables, initial: true }).resume();
  return snapshotter.copies.all.length;
}

test("a table that was not captured for a while is copied again: its changes of then are in no topic", async () => {
  const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const messages = new Map([[stateKey(INITIAL, 7), encodeState(job, { ...WAITING, status: "done" })]]);
  expect(await copiesOf(messages, [TABLE])).toBe(0);
  expect(await copiesOf(messages, [])).toBe(0);
  expect(await copiesOf(messages, [TABLE])).toBe(1);
});
