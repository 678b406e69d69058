import { expect, test } from "bun:test";
import { type ChangeEvent, decodeChangeEvent, positionOf } from "./change-event.ts";
import { CascadeError } from "./errors.ts";
import { eventEncoder } from "./event-writer.ts";

const event: ChangeEvent = {
  op: "u",
  table: { schema: "public", table: "orders", topic: "cascade.public.orders", schemaId: "5f0c2a9e1b7d4c33" },
  transaction: { txId: 771, commitLsn: 22781520n, committedAtMs: 1795402676163 },
  ordinal: 3,
  lsn: 22781456n,
  key: '{"id":42}',
  before: '{"id":42}',
  after: '{"id":42,"qty":7,"price":"19.90"}',
};

function codeOf(text: string): { code: string; verdict: string; message: string } {
  try {
    decodeChangeEvent(text);
  } catch (error) {
    if (error instanceof CascadeError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

test("an event is written exactly as the contract shows it", () => {
  expect(JSON.parse(eventEncoder("cascade", "app")(event, 1795402676170))).toEqual({
    op: "u",
    before: { id: 42 },
    after: { id: 42, qty: 7, price: "19.90" },
    source: {
      version: "1.0.0",
      connector: "cascade",
      name: "cascade",
      db: "app",
      schema: "public",
      table: "orders",
      txId: 771,
      lsn: 22781456,
      ts_ms: 1795402676163,
      snapshot: "false",
      commit_lsn: 22781520,
      ordinal: 3,
      schema_id: "5f0c2a9e1b7d4c33",
    },
    ts_ms: 1795402676170,
  });
});

test("a position past 2^53 survives the wire exactly", () => {
  const commitLsn = 2n ** 62n + 1n;
  const text = eventEncoder("cascade", "app")(
    { ...event, lsn: commitLsn - 1n, transaction: { ...event.transaction, commitLsn } },
    0,
  );
  expect(text).toContain(`"commit_lsn":${commitLsn},`);
  expect(decodeChangeEvent(text)).toMatchObject({ commitLsn, ordinal: 3, schemaId: "5f0c2a9e1b7d4c33" });
});

test("a position is found without reading the row", () => {
  const encode = eventEncoder("cascade", "app");
  const [commitLsn, table] = [2n ** 62n + 1n, { ...event.table, replica: 'r","commit_lsn":1,"ordinal":1}' }];
  const after = JSON.stringify({ commit_lsn: 1, ordinal: 2, text: '"commit_lsn":5,"ordinal":6}' });
  const text = encode({ ...event, table, after, transaction: { ...event.transaction, commitLsn } }, 0);
  expect(positionOf(text)).toEqual({ commitLsn, ordinal: 3 });
  for (const other of ["", "{}", '{"after":{"commit_lsn":1}}', "no event"]) expect(positionOf(other)).toBeNull();
});

test("a column named commit_lsn does not disturb a position past 2^53", () => {
  const commitLsn = 2n ** 62n + 1n;
  const after = '{"commit_lsn":1,"id":42}';
  const text = eventEncoder("cascade", "app")({ ...event, after, transaction: { ...event.transaction, commitLsn } }, 0);
  expect(decodeChangeEvent(text).commitLsn).toBe(commitLsn);
});

test("names that need escaping in JSON stay themselves", () => {
  const table = { ...event.table, schema: 'a"b', table: "back\\slash\n" };
  const { source } = JSON.parse(eventEncoder('pre"fix', "d\\b")({ ...event, table }, 0));
  expect(source).toMatchObject({ schema: 'a"b', table: "back\\slash\n", name: 'pre"fix', db: "d\\b" });
});

test("a foreign or damaged message is refused, and its values stay out of the error", () => {
  const good = JSON.parse(eventEncoder("cascade", "app")(event, 0));
  const bad: unknown[] = [
    { ...good, op: "x" },
    { ...good, op: "d", before: null },
    { ...good, after: null },
    { ...good, after: ["secret"] },
    { ...good, source: null },
    { ...good, source: { ...good.source, commit_lsn: "secret" } },
    { ...good, source: { ...good.source, commit_lsn: -1 } },
    { ...good, source: { ...good.source, ordinal: 1.5 } },
    { ...good, source: { ...good.source, schema_id: "" } },
    { ...good, source: { ...good.source, ts_ms: 9e15 } },
    ["secret"],
    "secret",
    null,
    1,
  ];
  for (const text of ["", "secret", '{"op":"c"', ...bad.map((value) => JSON.stringify(value))]) {
    const { code, verdict, message } = codeOf(text);
    expect({ code, verdict }).toEqual({ code: "MALFORMED_MESSAGE", verdict: "stop-table" });
    expect(message).not.toContain("secret");
  }
});

test("hostile messages are refused like any other: deep, huge, or named like an object's own parts", () => {
  const good = eventEncoder("cascade", "app")(event, 0);
  const withLsn = (lsn: string) => good.replace(/"commit_lsn":\d+/, `"commit_lsn":${lsn}`);
  const deep = (levels: number) => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;
  const hostile = [
    "[".repeat(1_000_000),
    withLsn("1e300"),
    withLsn("18446744073709551616"),
    withLsn("9007199254740999").replace("{", `{"x":${deep(100_000)},`),
    good.replace(/"source":{/, `"source":{"ts_ms":${deep(100_000)},`).replace(/"ts_ms":\d+,"snapshot"/, '"snapshot"'),
    good.replace('"source":', '"__proto__":'),
    good.replace('"source":', '"constructor":'),
  ];
  for (const text of hostile) expect(codeOf(text).code).toBe("MALFORMED_MESSAGE");
  expect(decodeChangeEvent(good.replace("{", `{"x":${deep(100_000)},`)).ordinal).toBe(event.ordinal);
  expect(Object.getPrototypeOf(decodeChangeEvent(good.replace("{", '{"__proto__":{"op":"t"},')))).toBe(Object.prototype);
});

test("a row of a copy, whom it is for and what it belongs to survive the wire; an ordinary event has no marks", () => {
  const marked = { ...event.table, filling: true, fillingFor: "r1,r2", replica: "r1", snapshotId: "s1" } as const;
  const encode = eventEncoder("cascade", "app");
  const text = encode({ ...event, op: "r", before: null, table: marked }, 0);
  expect(JSON.parse(text).source).toMatchObject({
    snapshot: "true",
    filling: true,
    filling_for: "r1,r2",
    replica: "r1",
    snapshot_id: "s1",
  });
  expect(decodeChangeEvent(text).marks).toEqual({
    filling: true,
    fillingFor: "r1,r2",
    replica: "r1",
    notReplica: null,
    snapshotId: "s1",
    movedFrom: null,
    movedTo: null,
  });
  const others = encode({ ...event, table: { ...event.table, notReplica: 'r"1' } }, 0);
  expect(decodeChangeEvent(others).marks).toEqual({
    filling: false,
    fillingFor: null,
    replica: null,
    notReplica: 'r"1',
    snapshotId: null,
    movedFrom: null,
    movedTo: null,
  });
  expect(decodeChangeEvent(encode(event, 0)).marks).toBeNull();
  expect(codeOf(others.replace('"not_replica":"r\\"1"', '"not_replica":1')).code).toBe("MALFORMED_MESSAGE");
});
