import { expect, test } from "bun:test";
import { identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import { SILENT } from "../../test/silent-report.ts";
import { type CopyState, INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import type { SnapshotReport } from "./report.ts";
import type { SignalLog } from "./signal-log.ts";
import { decodeState } from "./signals.ts";
import { Snapshotter } from "./snapshotter.ts";
import type { TableReader } from "./table-reader.ts";

/** In what order things are done, of which another life must know when this one dies between them. */

const nothing = () => undefined;
const schemaOf = (key: readonly string[]): TableSchema =>
  identifySchema({
    ...{ schema: "public", table: "t", oid: 7, key, identity: "default" },
    columns: [columnSchema("id", "integer", { attnum: 1, nullable: false })],
  });

/** What is done for these copies, in its order, until `enough` of it is. */
async function doneFor(
  schema: TableSchema,
  jobs: readonly { readonly request: string; readonly replica: string | null; readonly state?: Partial<CopyState> }[],
  {
    table,
    enough,
    now = schema,
    ends = [],
  }: {
    readonly table: "there" | "gone" | "looked at";
    readonly enough: number;
    readonly now?: TableSchema;
    /** Of these it counts that they are written down. */
    readonly ends?: readonly CopyState["status"][];
  },
): Promise<readonly string[]> {
  const done: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const doing = (what: string): void => {
    if (done.push(what) >= enough) resolve();
  };
  const found = { snapshot: { end: 10n, underWay: new Set<bigint>() }, schema: now };
  const looking = (what: string): void => {
    if (table === "looked at") doing(what);
  };
  const reader: TableReader = {
    snapshot: async () => {
      looking("snapshot");
      return found.snapshot;
    },
    waitsForStandby: async () => false,
    chunk: async (_oid, _plan, _range, wanted) => {
      looking("chunk");
      if (table === "gone") return "gone";
      wanted(found);
      return null;
    },
    scan: async (_oid, wanted) => {
      looking("scan");
      if (table === "gone") return "gone";
      wanted(found);
      return null;
    },
    mark: async () => doing("mark"),
    [Symbol.asyncDispose]: async () => undefined,
  };
  const log: SignalLog = {
    messages: new Map(),
    next: () => new Promise(nothing),
    write: async (messages) => {
      for (const { value } of messages) {
        const state = decodeState(value ?? "")?.state;
        if (state !== undefined && ends.includes(state.status)) doing(state.status);
        else if (state?.mayBeEmpty) doing("may be empty");
      }
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
  const report: SnapshotReport = { ...SILENT, begins: ({ job }) => doing(job.request) };
  const snapshotter = new Snapshotter({ openReader: async () => reader, log, report, initial: true });
  for (const { request, replica, state } of jobs)
    snapshotter.add({ request, oid: 7, name: schema, replica, range: WHOLE }, { ...WAITING, ...state }, schema);
  snapshotter.merged({ messages: async function* () {}, confirm: nothing, [Symbol.asyncDispose]: async () => undefined });
  const stop = new AbortController();
  const running = snapshotter.run(stop.signal);
  await promise;
  stop.abort();
  await running;
  return done;
}

test("a copy for one replica is known to empty its table before it can: its rows may be missing for another life", async () => {
  const done = await doneFor(schemaOf(["id"]), [{ request: "asked", replica: "r" }], { table: "there", enough: 3 });
  expect(done).toEqual(["asked", "may be empty", "mark"]);
});

test("a table without a key is copied for all before it is for whoever asks: the others have none of its rows", async () => {
  const jobs = [
    { request: "asked", replica: "r" },
    { request: INITIAL, replica: null },
  ];
  expect(await doneFor(schemaOf([]), jobs, { table: "gone", enough: 2 })).toEqual([INITIAL, "asked"]);
  expect(await doneFor(schemaOf(["id"]), jobs, { table: "gone", enough: 2 })).toEqual(["asked", INITIAL]);
});

test("a copy that begins anew as one of a table without a key waits for what the stream may have brought meanwhile", async () => {
  const jobs = [{ request: INITIAL, replica: null }];
  const done = await doneFor(schemaOf(["id"]), jobs, { table: "looked at", now: schemaOf([]), enough: 7 });
  expect(done).toEqual(["snapshot", INITIAL, "chunk", "snapshot", INITIAL, "scan", "mark"]);
});

test("where a copy has emptied its table and finds it gone, what the stream still brings of it is known to lack rows", async () => {
  const endOf = (state: Partial<CopyState>, enough: number) =>
    doneFor(schemaOf(["id"]), [{ request: "asked", replica: "r", state }], { table: "gone", enough, ends: ["left", "failed"] });
  // Copying by chunks has begun with its truncate.
  expect(await endOf({ status: "copying", begun: true, mayBeEmpty: true, after: '{"id":1}' }, 3)).toEqual([
    "asked",
    "left",
    "failed",
  ]);
  expect(await endOf({}, 2)).toEqual(["asked", "failed"]);
});
