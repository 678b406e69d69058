import { expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf } from "../test/memory-replica.ts";
import { changed } from "../test/table-changer.ts";
import { Fence } from "./fence.ts";
import type { Progress } from "./replica.ts";

const a = tableSchema("a", { id: "integer" });
const b = changed(a, { table: "b" });
const history = historyOf([a, 1n], [b, 5n]);
const place = (commitLsn: bigint) => ({ commitLsn, ordinal: 0 });
const progress = (nextOffset: bigint, commitLsn: bigint): Progress => ({
  nextOffset,
  ...place(commitLsn),
  sourceCommittedAtMs: 0,
});

interface Given {
  readonly end?: bigint | null;
  readonly applied?: Progress | null;
  readonly takes?: boolean;
}

async function passes({ end = 10n, applied = null, takes = true }: Given): Promise<boolean> {
  const fence = new Fence({
    prefix: "cascade",
    history,
    matches: () => takes,
    ends: async (topic) => {
      expect(topic).toBe("cascade.public.a");
      return end === null ? null : new Map([[0, end]]);
    },
    progress: async () => applied,
  });
  return fence.pass(b, place(6n)).then(
    () => true,
    (error: { code: string }) => {
      expect(error.code).toBe("WAITING");
      return false;
    },
  );
}

test("the rows under the other name are applied when its topic is at its end, empty, gone, not taken, or past the place", async () => {
  expect(await passes({ applied: null })).toBe(false);
  expect(await passes({ applied: progress(9n, 4n) })).toBe(false);
  expect(await passes({ applied: progress(10n, 4n) })).toBe(true);
  expect(await passes({ applied: { ...progress(9n, 5n), ordinal: -1 } })).toBe(true);
  expect(await passes({ end: 0n })).toBe(true);
  expect(await passes({ end: null })).toBe(true);
  expect(await passes({ takes: false })).toBe(true);
});

test("a table that never had another name, or was brought here since, has nothing to wait for", () => {
  const fence = new Fence({
    ...{ prefix: "cascade", history, matches: () => true, ends: async () => null, progress: async () => null },
  });
  const remembered = { oid: a.oid, schema: a, named: a, revision: 1, awaiting: null };
  expect(fence.movedAt(b, place(6n), { ...remembered, at: place(1n) })).toEqual(place(5n));
  expect(fence.movedAt(b, place(6n), { ...remembered, at: place(5n) })).toBeNull();
  expect(fence.movedAt(changed(a, { oid: 9 }), place(6n), undefined)).toBeNull();
});

test("of events of one schema those are taken first that came before the table had another name for a while", () => {
  const fence = new Fence({
    ...{ prefix: "cascade", matches: () => true, ends: async () => null, progress: async () => null },
    history: historyOf([a, 1n], [b, 5n], [a, 8n], [b, 11n], [a, 14n]),
  });
  const table = { oid: a.oid, schema: a, named: a, revision: 1, awaiting: null };
  const events = [2n, 3n, 9n, 10n, 15n].map(place);
  expect(fence.beforeReturn(a, events, { ...table, at: place(1n) })).toEqual(events.slice(0, 2));
  expect(fence.beforeReturn(a, events.slice(2), { ...table, at: place(8n) })).toEqual(events.slice(2, 4));
  expect(fence.beforeReturn(a, events.slice(4), { ...table, at: place(8n) })).toEqual(events.slice(4));
  expect(fence.beforeReturn(a, events, { ...table, at: place(14n) })).toEqual(events);
  expect(fence.beforeReturn(a, [], { ...table, at: place(1n) })).toEqual([]);
});

test("what a topic holds of a table from before it is known to have left it is passed", () => {
  const fence = new Fence({
    ...{ prefix: "cascade", history, matches: () => true, ends: async () => null, progress: async () => null },
  });
  const remembered = { oid: a.oid, schema: a, named: a, revision: 1, awaiting: null };
  expect(fence.leftAt(a, undefined)).toBeNull();
  expect(fence.leftAt(a, { ...remembered, at: place(4n) })).toBeNull();
  expect(fence.leftAt(a, { ...remembered, at: place(5n) })).toEqual(place(5n));
  expect(fence.leftAt(b, { ...remembered, at: place(5n) })).toBeNull();
});
