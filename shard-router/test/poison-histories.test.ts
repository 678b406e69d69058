import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import { discard } from "../src/replay.ts";
import { type Change, Crash, keyed, PoisonLine, rawEvents } from "./poison-lab.ts";
import { cure, makeSick, POISON } from "./poison-tables.ts";
import { REPLICA_KINDS, type ReplicaKind, replicaLab } from "./replica-labs.ts";

/**
 * Histories by chance against a model: rows that are refused, keys that change, copies, truncates, crashes and replays that come too early.
 * At every stop, what is not held is right; after the cure and a replay, everything is.
 */

setDefaultTimeout(240_000);

const RUNS: Readonly<Record<ReplicaKind, number>> = { sqlite: 60, postgres: 6, mariadb: 4, mysql: 4, duckdb: 6 };
const KEYS = 4;

interface Row {
  readonly v: number;
  readonly w: number;
}
type Model = ReadonlyMap<number, Row>;

const stepArbitrary = fc.record({
  kind: fc.constantFrom("put", "put", "put", "patch", "move", "patch-move", "delete", "copy", "truncate", "copy-truncate"),
  id: fc.integer({ min: 1, max: KEYS }),
  other: fc.integer({ min: 1, max: KEYS }),
  v: fc.oneof({ weight: 2, arbitrary: fc.integer({ min: 0, max: 99 }) }, { weight: 1, arbitrary: fc.constant(POISON) }),
  w: fc.integer({ min: 0, max: 9 }),
});
type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** What main-db would do and send; null for what cannot be done now. */
function changeOf({ kind, id, other, v, w }: Step, model: Map<number, Row>): Change | null {
  const row = model.get(id);
  switch (kind) {
    case "put":
      model.set(id, { v, w });
      return { op: row === undefined ? "c" : "u", after: { id, v, w } };
    case "patch":
      if (row === undefined) return null;
      model.set(id, { v, w: row.w });
      return { op: "u", after: { id, v } };
    case "move":
    case "patch-move": {
      if (row === undefined || other === id || model.has(other)) return null;
      model.delete(id);
      model.set(other, { v, w: kind === "move" ? w : row.w });
      return { op: "u", before: { id }, after: { id: other, v, ...(kind === "move" ? { w } : {}) } };
    }
    case "delete":
      return model.delete(id) ? { op: "d", before: { id } } : null;
    case "copy":
      return row === undefined ? null : { op: "r", after: { id, ...row } };
    case "truncate":
      model.clear();
      return { op: "t" };
    case "copy-truncate":
      // For another replica: nothing happens here.
      return { op: "t", replica: "another" };
  }
}

const actionArbitrary = fc.record({
  steps: fc.array(stepArbitrary, { maxLength: 12 }),
  batchSize: fc.integer({ min: 1, max: 8 }),
  /** At which of its doings the router crashes; past the last: not at all. */
  crashAt: fc.integer({ min: 0, max: 12 }),
  replays: fc.boolean(),
  discards: fc.option(fc.integer({ min: 1, max: KEYS }), { freq: 4 }),
});

const historyArbitrary = (hasDiscards: boolean) =>
  fc.record({
    actions: fc.array(
      actionArbitrary.map((action) => ({ ...action, discards: hasDiscards ? action.discards : null })),
      { minLength: 1, maxLength: 5 },
    ),
    maxBytes: fc.constantFrom(1, 900, 1_000_000),
  });

async function live(
  kind: ReplicaKind,
  { actions, maxBytes }: ReturnType<typeof historyArbitrary> extends fc.Arbitrary<infer T> ? T : never,
) {
  const lab = await replicaLab(kind);
  try {
    await makeSick(kind, lab);
    const replica = await lab.open();
    const line = new PoisonLine(replica);
    const model = new Map<number, Row>();
    const wrong = new Set<number>();
    const rows = async (): Promise<Model> =>
      new Map((await lab.rows(keyed)).map(({ id, v, w }) => [Number(id), { v: Number(v), w: Number(w) }]));
    const idsHeld = async () => new Set((await replica.held()).map(({ text }) => (JSON.parse(text) as { id: number }).id));
    const check = async () => {
      const excused = (await idsHeld()).union(wrong);
      const right = (all: Model) => [...all].filter(([id]) => !excused.has(id)).toSorted(([a], [b]) => a - b);
      expect(right(await rows())).toEqual(right(model));
    };
    for (const { steps, batchSize, crashAt, replays, discards } of actions) {
      const hasDiscards = discards !== null || wrong.size > 0;
      for (const step of steps) {
        // What a row was that is not as it should be, an incomplete change does not say.
        if (actions.some((action) => action.discards !== null) && step.kind.startsWith("patch")) continue;
        const change = changeOf(step, model);
        if (change !== null) line.events.push(...rawEvents([change], line.events.length));
      }
      let doings = 0;
      const fault = () => {
        if (doings++ === crashAt) throw new Crash();
      };
      for (let tries = 0; tries < 2; tries++) {
        try {
          expect((await line.route({ batchSize, ...(tries === 0 ? { fault } : {}) })).error).toBeNull();
        } catch (error) {
          if (!(error instanceof Crash)) throw error;
        }
      }
      await check();
      if (replays) await line.replay(() => true, replica, maxBytes);
      if (hasDiscards && discards !== null) {
        const gone = await discard({ replica }, ({ text }) => text === JSON.stringify({ id: discards }));
        if (gone.length > 0) wrong.add(discards);
      }
      await check();
    }
    await cure(kind, lab);
    const { failed } = await line.replay(() => true, replica, maxBytes);
    expect(failed).toEqual([]);
    expect((await replica.held()).length).toBe(0);
    await check();
  } finally {
    await lab.close();
  }
}

describe.each(REPLICA_KINDS)("%s", (kind) => {
  test("a history with refused rows, replayed after the cure, ends as one without", async () => {
    await fc.assert(
      fc.asyncProperty(historyArbitrary(false), (history) => live(kind, history)),
      {
        numRuns: RUNS[kind],
        endOnFailure: false,
      },
    );
  });

  test("one in which keys were discarded differs in these alone", async () => {
    await fc.assert(
      fc.asyncProperty(historyArbitrary(true), (history) => live(kind, history)),
      { numRuns: RUNS[kind] },
    );
  });
});
