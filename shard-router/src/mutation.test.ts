import { describe, expect, test } from "bun:test";
import type { Op, ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { NO_MARKS } from "@cascade/shared/testing/event-marks";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { type Mutation, toMutations } from "./mutation.ts";

const event = (op: Op, before: WireRow | null, after: WireRow | null): ReceivedEvent => ({
  op,
  before,
  after,
  schemaId: "0123456789abcdef",
  committedAtMs: 0,
  commitLsn: 1n,
  ordinal: 0,
  marks: null,
});

const keyed = tableSchema("orders", { id: "integer", qty: "integer", big: "text" });
const keyedFull = tableSchema("orders", { id: "integer", qty: "integer", big: "text" }, { identity: "full" });
const composite = tableSchema("lines", { line: "integer", order: "bigint", note: "text" }, { key: ["order", "line"] });
const keyless = tableSchema("log", { at: "text", n: "integer" }, { key: [] });

describe("events of a table with a key", () => {
  const whole = { id: 1, qty: 2, big: "b" };
  const { big: _, ...partial } = whole;
  const cases: readonly (readonly [string, ReceivedEvent, readonly Mutation[]])[] = [
    ["an insert puts", event("c", null, whole), [{ kind: "put", row: whole }]],
    ["a snapshot's row puts", event("r", null, whole), [{ kind: "put", row: whole }]],
    ["a complete update puts", event("u", { id: 1 }, whole), [{ kind: "put", row: whole }]],
    ["an update without its old key puts", event("u", null, whole), [{ kind: "put", row: whole }]],
    ["an update without an unchanged column patches", event("u", { id: 1 }, partial), [{ kind: "patch", row: partial }]],
    ["nulls are values", event("u", { id: 1 }, { id: 1, big: null }), [{ kind: "patch", row: { id: 1, big: null } }]],
    [
      "a complete update of the key deletes and puts",
      event("u", { id: 9 }, whole),
      [
        { kind: "delete", key: { id: 9 } },
        { kind: "put", row: whole },
      ],
    ],
    ["a partial update of the key moves", event("u", { id: 9 }, partial), [{ kind: "move", from: { id: 9 }, row: partial }]],
    ["a delete deletes", event("d", { id: 1 }, null), [{ kind: "delete", key: { id: 1 } }]],
    ["a truncate truncates", event("t", null, null), [{ kind: "truncate" }]],
  ];
  test.each(cases)("%s", (_name, given, expected) => {
    expect(toMutations(keyed, [given])).toEqual([...expected]);
  });

  test("under REPLICA IDENTITY FULL the old row completes the new one, and a delete keeps its key only", () => {
    const before = { id: 9, qty: 1, big: "old" };
    expect(toMutations(keyedFull, [event("u", before, { id: 9, qty: 2 }), event("d", before, null)])).toEqual([
      { kind: "put", row: { id: 9, qty: 2, big: "old" } },
      { kind: "delete", key: { id: 9 } },
    ]);
    expect(toMutations(keyedFull, [event("u", before, { id: 10, qty: 2 })])).toEqual([
      { kind: "delete", key: { id: 9 } },
      { kind: "put", row: { id: 10, qty: 2, big: "old" } },
    ]);
  });

  test("a composite key changes with any of its columns, and is told by all of them", () => {
    const before = { order: "1", line: 23 };
    expect(toMutations(composite, [event("u", before, { order: "1", line: 23 })])[0]?.kind).toBe("patch");
    expect(toMutations(composite, [event("u", before, { order: "12", line: 3 })])).toEqual([
      { kind: "move", from: before, row: { order: "12", line: 3 } },
    ]);
  });

  test("keys that are equal but look different have changed", () => {
    const float = tableSchema("f", { id: "double precision" });
    expect(toMutations(float, [event("u", { id: 0 }, { id: -0 })]).map(({ kind }) => kind)).toEqual(["delete", "put"]);
  });
});

test("a table without a key removes and appends whole rows", () => {
  const row = { at: "a", n: 1 };
  expect(
    toMutations(keyless, [
      event("c", null, row),
      event("u", row, { n: 2 }),
      event("d", { ...row, n: 2 }, null),
      event("t", null, null),
    ]),
  ).toEqual([
    { kind: "append", row },
    { kind: "remove", row },
    { kind: "append", row: { at: "a", n: 2 } },
    { kind: "remove", row: { at: "a", n: 2 } },
    { kind: "truncate" },
  ]);
});

test("columns named like what every object has are columns like others", () => {
  const odd = tableSchema("odd", [
    ["constructor", "text"],
    ["__proto__", "text"],
    ["toString", "integer"],
  ]);
  const json = (text: string) => JSON.parse(text) as WireRow;
  const [put, patch, moved] = toMutations(odd, [
    event("c", null, json('{"constructor":"k","__proto__":"p","toString":1}')),
    event("u", json('{"constructor":"k"}'), json('{"constructor":"k","toString":2}')),
    event("u", json('{"constructor":"k"}'), json('{"constructor":"l","__proto__":null}')),
  ]);
  expect(put?.kind).toBe("put");
  expect(JSON.stringify(patch)).toBe('{"kind":"patch","row":{"constructor":"k","toString":2}}');
  expect(JSON.stringify(moved)).toBe('{"kind":"move","from":{"constructor":"k"},"row":{"constructor":"l","__proto__":null}}');
});

describe("an event that does not fit its schema", () => {
  const cases: readonly (readonly [string, ReceivedEvent, string])[] = [
    ["an insert without a column", event("c", null, { id: 1, qty: 2 }), "column big is missing"],
    ["a column of another schema", event("c", null, { id: 1, qty: 2, big: "b", extra: "secret" }), "has no column extra"],
    ["a value of another kind", event("c", null, { id: "1", qty: 2, big: "secret" }), "column id holds a string"],
    ["a fraction for an integer", event("c", null, { id: 1, qty: 1.5, big: "b" }), "column qty holds a number"],
    ["a null in the key", event("c", null, { id: null, qty: 2, big: "b" }), "key column id is null"],
    ["an update without its key", event("u", null, { qty: 2, big: "b" }), "key column id is missing"],
    ["a delete without its key", event("d", {}, null), "key column id is missing"],
    ["a delete without its old row", event("d", null, null), 'it has no "before"'],
    ["an insert without its row", event("c", null, null), 'it has no "after"'],
  ];
  test.each(cases)("%s stops the table and says which column", (_name, given, reason) => {
    const error = thrownBy(() => toMutations(keyed, [given]));
    expect(error).toMatchObject({ code: "MALFORMED_EVENT", verdict: "stop-table" });
    expect(error.message).toContain("public.orders");
    expect(error.message).toContain(reason);
    expect(error.message).not.toContain("secret");
  });

  test("a table without a key needs the whole old row", () => {
    expect(thrownBy(() => toMutations(keyless, [event("d", { at: "a" }, null)])).message).toContain("column n is missing");
    expect(thrownBy(() => toMutations(keyless, [event("u", null, { at: "a", n: 1 })])).message).toContain('no "before"');
  });
});

function thrownBy(act: () => unknown): CascadeError {
  try {
    act();
  } catch (error) {
    if (error instanceof CascadeError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("a partial update may miss its row while the table is being copied", () => {
  const marks = { ...NO_MARKS, filling: true };
  const partial = { id: 1, qty: 2 };
  const whole = { ...partial, big: "b" };
  const events = [event("u", { id: 1 }, partial), event("u", { id: 9 }, partial), event("u", { id: 1 }, whole)];
  expect(
    toMutations(
      keyed,
      events.map((each) => ({ ...each, marks })),
    ),
  ).toEqual([
    { kind: "patch", row: partial, mayMiss: true },
    // Main-db may have deleted one with the new key where changes were lost.
    { kind: "delete", key: { id: 1 } },
    { kind: "move", from: { id: 9 }, row: partial, mayMiss: true },
    { kind: "put", row: whole },
  ]);
  // The same row, not one that is in the way.
  const spelt = tableSchema("spelt", { id: "numeric", note: "text" });
  expect(toMutations(spelt, [{ ...event("u", { id: "1.0" }, { id: "1.00" }), marks }])).toEqual([
    { kind: "move", from: { id: "1.0" }, row: { id: "1.00" }, mayMiss: true },
  ]);
  const row = { at: "a", n: 1 };
  expect(toMutations(keyless, [{ ...event("d", row, null), marks }])).toEqual([{ kind: "remove", row, mayMiss: true }]);
});
