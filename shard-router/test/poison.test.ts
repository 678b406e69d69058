import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { HeldKey } from "../src/held-keys.ts";
import { offsetOf } from "../src/poison.ts";
import { discard } from "../src/replay.ts";
import type { Replica } from "../src/replica.ts";
import {
  type Change,
  Crash,
  column,
  keyed,
  keyless,
  type LineOptions,
  otherwise,
  PoisonLine,
  partition,
  rawEvents,
} from "./poison-lab.ts";
import { cure, makeSick, POISON, SANE } from "./poison-tables.ts";
import { REPLICA_KINDS, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Rows that a replica refuses: on every engine, by a constraint of its user's. */

setDefaultTimeout(60_000);

const put = (id: number, v: number, w = 0): Change => ({ op: "c", after: { id, v, w } });
const update = (id: number, v: number, w = 0): Change => ({ op: "u", after: { id, v, w } });
const move = (from: number, id: number, v: number, w = 0): Change => ({ op: "u", before: { id: from }, after: { id, v, w } });
const remove = (id: number): Change => ({ op: "d", before: { id } });

describe.each(REPLICA_KINDS)("%s", (kind) => {
  let lab: ReplicaLab;
  let replica: Replica;
  let line: PoisonLine;
  beforeEach(async () => {
    lab = await replicaLab(kind);
    await makeSick(kind, lab);
    replica = await lab.open();
    line = new PoisonLine(replica);
  });
  afterEach(() => lab.close());

  const rows = async () =>
    (await lab.rows(keyed)).map(({ id, v, w }) => [Number(id), Number(v), Number(w)]).toSorted(([a = 0], [b = 0]) => a - b);
  const heldTexts = async () => (await replica.held()).map(({ text, events }) => [text, events]).toSorted();
  const more = (...changes: readonly Change[]) => line.events.push(...rawEvents(changes, line.events.length));
  const go = async (changes: readonly Change[], options?: LineOptions) => {
    line.events.splice(0, line.events.length, ...rawEvents(changes));
    return line.route(options);
  };

  test("under stop the partition is held at the row, over restarts, until its cause is mended", async () => {
    const changes = [put(1, 1), put(2, 2), put(3, POISON), put(4, 4)];
    for (let start = 0; start < 2; start++) {
      const { error } = await go(changes, { policy: "stop" });
      expect(error?.code).toBe("CONSTRAINT_VIOLATED");
      expect(error && offsetOf(error)).toBe(2n);
      expect(await rows()).toEqual([
        [1, 1, 0],
        [2, 2, 0],
      ]);
    }
    await cure(kind, lab);
    expect((await line.route({ policy: "stop" })).error).toBeNull();
    expect(await rows()).toEqual([
      [1, 1, 0],
      [2, 2, 0],
      [3, POISON, 0],
      [4, 4, 0],
    ]);
    expect(line.letters).toEqual([]);
  });

  test("a message that is no event holds its partition under either policy, and names its place", async () => {
    for (const policy of ["stop", "dead-letter"] as const) {
      for (const value of ["{", "[".repeat(200_000), '{"__proto__":{"op":"c"}}', "null"]) {
        line.events.splice(0, line.events.length, ...rawEvents([put(1, 1), put(2, 2)]));
        line.events.splice(1, 0, { offset: 1n, key: '{"id":1}', value });
        line.events[2] = { ...(line.events[2] as (typeof line.events)[number]), offset: 2n };
        const { error } = await line.route({ policy });
        expect(error?.code).toBe("MALFORMED_MESSAGE");
        expect(error && offsetOf(error)).toBe(1n);
        expect([await rows(), line.letters]).toEqual([[[1, 1, 0]], []]);
      }
    }
  });

  test("an event that does not fit its schema holds its partition too: its position may be as wrong as the rest", async () => {
    for (const after of [
      { id: 2, v: "a text", w: 0 },
      { id: null, v: 1, w: 1 },
      { id: {}, v: 1, w: 1 },
      { id: 1.5, v: 1, w: 1 },
    ]) {
      const { error } = await go([put(1, 1), { op: "c", after }, put(3, 3)]);
      expect(error?.code).toBe("MALFORMED_EVENT");
      expect(error && offsetOf(error)).toBe(1n);
      expect([await rows(), line.letters]).toEqual([[[1, 1, 0]], []]);
    }
  });

  test("a refused row and all that follows of its key are held back, with error, place and trace; the others go on", async () => {
    const changes = [put(1, 1), put(2, POISON), put(3, 3), update(2, 5), update(1, 6), remove(2), put(2, 7)];
    const { error, held } = await go(changes, { batchSize: 1 });
    expect(error).toBeNull();
    expect(await rows()).toEqual([
      [1, 6, 0],
      [3, 3, 0],
    ]);
    expect(await heldTexts()).toEqual([['{"id":2}', 4]]);
    expect(held.all.size).toBe(1);
    expect(line.letters.map(({ event, cause }) => [Number(event.offset), cause.code])).toEqual([
      [1, "CONSTRAINT_VIOLATED"],
      [3, "KEY_HELD"],
      [5, "KEY_HELD"],
      [6, "KEY_HELD"],
    ]);
    for (const { event } of line.letters) expect(event).toEqual(line.events[Number(event.offset)] as typeof event);
    const [key] = await replica.held();
    expect(key?.cause).toMatchObject({ code: "CONSTRAINT_VIOLATED", advice: expect.stringContaining("drop it") });
    expect(JSON.stringify(key?.cause)).not.toContain(String(POISON));
  });

  test("replay before the cure changes nothing but the error; after it the replica is as if nothing had been", async () => {
    await go([put(1, 1), put(2, POISON), update(2, 5, 1), put(3, POISON), update(2, POISON, 2)]);
    const refused = await line.replay();
    expect([refused.released, refused.failed.length]).toEqual([[], 2]);
    expect(await heldTexts()).toEqual([
      ['{"id":2}', 3],
      ['{"id":3}', 1],
    ]);
    await cure(kind, lab);
    const { released, failed } = await line.replay();
    expect([released.length, failed]).toEqual([2, []]);
    expect(await rows()).toEqual([
      [1, 1, 0],
      [2, POISON, 2],
      [3, POISON, 0],
    ]);
    expect(await replica.held()).toEqual([]);
    more(update(2, 8));
    expect((await line.route()).error).toBeNull();
    expect(await rows()).toContainEqual([2, 8, 0]);
    expect((await line.replay()).released).toEqual([]);
  });

  test("a change of the key holds both keys, and replays them together", async () => {
    await go([put(1, 1), put(2, POISON), move(2, 5, 7), update(5, 8), put(2, 9), move(1, 6, POISON), put(7, 7)], {
      batchSize: 1,
    });
    expect(await heldTexts()).toEqual([
      ['{"id":1}', 1],
      ['{"id":2}', 3],
      ['{"id":5}', 2],
      ['{"id":6}', 1],
    ]);
    expect(await rows()).toEqual([
      [1, 1, 0],
      [7, 7, 0],
    ]);
    await cure(kind, lab);
    const { released } = await line.replay(({ text }) => text === '{"id":5}');
    expect(released.map(({ text }) => text).toSorted()).toEqual(['{"id":2}', '{"id":5}']);
    expect(await rows()).toEqual([
      [1, 1, 0],
      [2, 9, 0],
      [5, 8, 0],
      [7, 7, 0],
    ]);
    await line.replay();
    expect(await rows()).toEqual([
      [2, 9, 0],
      [5, 8, 0],
      [6, POISON, 0],
      [7, 7, 0],
    ]);
  });

  test("a truncate voids what is held; a copied row voids what is held of its key, unless it is refused itself", async () => {
    await go([
      put(1, POISON),
      put(2, POISON),
      { op: "r", after: { id: 1, v: 3, w: 3 } },
      { op: "r", after: { id: 2, v: POISON, w: 0 } },
      update(1, 4),
    ]);
    expect(await rows()).toEqual([[1, 4, 0]]);
    expect(await heldTexts()).toEqual([['{"id":2}', 2]]);
    more({ op: "t", replica: "another" }, update(2, 5));
    await line.route();
    expect(await heldTexts()).toEqual([['{"id":2}', 3]]);
    more({ op: "t", replica: "mine" }, put(2, 6));
    await line.route();
    expect([await heldTexts(), await rows()]).toEqual([[], [[2, 6, 0]]]);
  });

  test("of a key that moved, what is discarded or copied anew is left out of the replay of the other", async () => {
    await go([put(1, 1), put(2, POISON), move(2, 5, 7), { op: "r", after: { id: 5, v: 9, w: 9 } }], { batchSize: 1 });
    expect(await heldTexts()).toEqual([['{"id":2}', 2]]);
    await cure(kind, lab);
    expect((await line.replay()).failed).toEqual([]);
    expect(await rows()).toEqual([
      [1, 1, 0],
      [5, 9, 9],
    ]);
  });

  test("discard releases the key and leaves its row as it was", async () => {
    await go([put(1, 1), update(1, POISON), update(1, 3), put(2, POISON)]);
    const gone = await discard({ replica }, ({ text }) => text === '{"id":1}');
    expect(gone.map(({ text, events }) => [text, events])).toEqual([['{"id":1}', 2]]);
    expect([await heldTexts(), await rows()]).toEqual([[['{"id":2}', 1]], [[1, 1, 0]]]);
    more(update(1, 4));
    await line.route();
    expect(await rows()).toEqual([[1, 4, 0]]);
  });

  test("a crash anywhere leaves what is held exactly known, and letters at most twice", async () => {
    const changes = [put(1, 1), put(2, POISON), update(2, 5), put(3, POISON), update(1, 2), update(3, 6)];
    line.events.push(...rawEvents(changes));
    let crashes = 0;
    for (let at = 0, done = false; !done; at++) {
      let step = 0;
      const fault = () => {
        if (step++ === at) throw new Crash();
      };
      try {
        await line.route({ fault, batchSize: 1 });
        done = true;
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        crashes++;
      }
    }
    expect(crashes).toBeGreaterThan(3);
    expect(await heldTexts()).toEqual([
      ['{"id":2}', 2],
      ['{"id":3}', 2],
    ]);
    expect(await rows()).toEqual([[1, 2, 0]]);
    await cure(kind, lab);
    expect((await line.replay()).failed).toEqual([]);
    expect(await rows()).toEqual([
      [1, 2, 0],
      [2, 5, 0],
      [3, 6, 0],
    ]);
  });

  test("a router that read what was held before a replay is fenced, and reads it again", async () => {
    await go([put(1, POISON), put(2, 2)]);
    await cure(kind, lab);
    more(update(1, 5));
    const { error } = await line.route({
      fault: async (what, when) => {
        if (what === "publish" && when === "after") await line.replay();
      },
    });
    expect(error).toBeNull();
    expect([await rows(), await replica.held()]).toEqual([
      [
        [1, 5, 0],
        [2, 2, 0],
      ],
      [],
    ]);
    // The letter is there, and nothing is held for it: a replay passes it over.
    expect(line.letters.length).toBe(2);
    await line.replay();
    expect((await rows())[0]).toEqual([1, 5, 0]);
  });

  test("a replay that read what was held before the router held back more is fenced, and reads it again", async () => {
    await go([put(1, POISON), put(2, 2)]);
    await cure(kind, lab);
    let isFirst = true;
    const settle: Replica["settle"] = async (work, of) => {
      if (isFirst) {
        isFirst = false;
        more(update(1, 5));
        await line.route();
      }
      return replica.settle(work, of);
    };
    expect((await line.replay(() => true, { ...replica, settle })).failed).toEqual([]);
    expect([(await rows())[0], await replica.held()]).toEqual([[1, 5, 0], []]);
  });

  test("what is held stays so under stop, where nothing more is", async () => {
    await go([put(1, POISON), put(2, 2)]);
    more(update(1, 5), update(2, 6), put(3, POISON));
    expect((await line.route({ policy: "stop" })).error?.code).toBe("CONSTRAINT_VIOLATED");
    expect([await heldTexts(), await rows()]).toEqual([[['{"id":1}', 2]], [[2, 6, 0]]]);
  });

  test("a replay that does not find every letter says so, and changes nothing", async () => {
    await go([put(1, POISON), put(2, 2)]);
    more(update(1, 5));
    await line.route();
    await cure(kind, lab);
    line.letters.shift();
    const { failed } = await line.replay();
    expect(failed.map(({ error }) => error.code)).toEqual(["DEAD_LETTERS_LOST"]);
    expect([await heldTexts(), await rows()]).toEqual([[['{"id":1}', 2]], [[2, 2, 0]]]);
    expect((await replica.held())[0]?.cause.code).toBe("DEAD_LETTERS_LOST");
  });

  test("a replay that finds more letters than were counted applies all of them, and ends", async () => {
    await go([put(1, POISON), put(2, 2)]);
    more(update(1, 5), update(1, 6));
    await line.route();
    await cure(kind, lab);
    // As where a router's letters got out, and its commit was fenced by rules that give the row to another shard.
    const [from] = (await replica.held()) as [HeldKey];
    const holds = [{ kind: "change", from, to: { ...from, events: 1 } }] as const;
    await replica.settle({ statements: [], inOrder: () => [], holds }, partition);
    const { released, failed } = await line.replay(() => true, replica, 1);
    expect([released.map(({ text }) => text), failed]).toEqual([['{"id":1}'], []]);
    expect([(await rows())[0], await replica.held()]).toEqual([[1, 6, 0], []]);
  });

  test("a row that moved, incomplete, from a key that was discarded cannot be made of what is left", async () => {
    await go([put(1, 1, 1), update(1, POISON, 2)]);
    more({ op: "u", before: { id: 1 }, after: { id: 5, v: 7 } });
    await line.route();
    await discard({ replica }, ({ text }) => text === '{"id":1}');
    await cure(kind, lab);
    expect((await line.replay()).failed.map(({ error }) => error.code)).toEqual(["HELD_ROW_UNKNOWN"]);
    await discard({ replica }, () => true);
    more({ op: "r", after: { id: 5, v: 7, w: 2 } });
    await line.route();
    expect([await heldTexts(), await rows()]).toEqual([
      [],
      [
        [1, 1, 1],
        [5, 7, 2],
      ],
    ]);
  });

  test("a copied row of a key that another's row is made of waits to be replayed with it", async () => {
    await go([put(1, 1, 1), update(1, POISON, 2)]);
    more({ op: "u", before: { id: 1 }, after: { id: 5, v: 7 } }, put(1, 8, 8), { op: "r", after: { id: 1, v: 8, w: 8 } });
    await line.route();
    expect(await heldTexts()).toEqual([
      ['{"id":1}', 4],
      ['{"id":5}', 1],
    ]);
    await cure(kind, lab);
    expect((await line.replay()).failed).toEqual([]);
    expect(await rows()).toEqual([
      [1, 8, 8],
      [5, 7, 2],
    ]);
  });

  test("past the limit of keys the table stops; what is held stays, and replay lets it go on", async () => {
    const changes = [put(1, POISON), put(2, POISON), put(3, 3), put(4, POISON), put(5, 5)];
    const { error } = await go(changes, { maxKeys: 2 });
    expect(error && offsetOf(error)).toBe(3n);
    expect(error).toMatchObject({ code: "TOO_MANY_HELD_KEYS", message: expect.stringContaining("CONSTRAINT_VIOLATED") });
    expect(await rows()).toEqual([[3, 3, 0]]);
    await cure(kind, lab);
    await line.replay();
    expect((await line.route({ maxKeys: 2 })).error).toBeNull();
    expect((await rows()).length).toBe(5);
  });

  test("a row that moves is held under both its keys, though one key may be", async () => {
    await go([put(1, 1), { op: "u", before: { id: 1 }, after: { id: 2, v: POISON } }, put(3, 3)], { maxKeys: 1 });
    expect(await heldTexts()).toEqual([
      ['{"id":1}', 1],
      ['{"id":2}', 1],
    ]);
    await cure(kind, lab);
    expect((await line.replay()).failed).toEqual([]);
    expect((await rows()).length).toBe(2);
  });

  test("what is wrong with the table is no row's fault", async () => {
    await go([put(1, 1)]);
    await lab.sql(`ALTER TABLE ${lab.nameOf(keyed)} DROP COLUMN w`);
    more(put(2, 2));
    expect((await line.route()).error?.code).toBe("REPLICA_TABLE_MISMATCH");
    expect([line.letters, await replica.held()]).toEqual([[], []]);
  });

  test("which keys are given up is said before they are: afterwards nobody could", async () => {
    await go([put(1, POISON), put(2, POISON)]);
    const told: string[] = [];
    const settle = () => Promise.reject(new Error("the answer is lost"));
    const held = () => replica.held();
    const discarding = discard(
      { replica: { ...replica, held, settle }, givingUp: ({ text }) => void told.push(text) },
      () => true,
    );
    await expect(discarding).rejects.toThrow("the answer is lost");
    expect(told.length).toBe(1);
    expect((await heldTexts()).length).toBe(2);
  });

  test("keys of before the key's columns changed are not mistaken for others", async () => {
    await go([put(1, POISON)]);
    await cure(kind, lab);
    const other = otherwise({ key: ["w"] });
    line.announce(other, 2n);
    more({ ...put(2, 2, 5), schema: other });
    const { error } = await line.route();
    expect(error?.code).toBe("HELD_KEY_CHANGED");
    expect(await heldTexts()).toEqual([['{"id":1}', 1]]);
    await discard({ replica }, () => true);
    expect((await line.route()).error).toBeNull();
    expect(await rows()).toContainEqual([2, 2, 5]);
  });

  test("a truncate under another key voids what is held of the one before", async () => {
    await go([put(1, POISON)]);
    await cure(kind, lab);
    const other = otherwise({ key: ["w"] });
    line.announce(other, 2n);
    more({ op: "t", schema: other }, { ...put(2, 2, 5), schema: other });
    expect((await line.route()).error).toBeNull();
    expect(await heldTexts()).toEqual([]);
    expect(await rows()).toEqual([[2, 2, 5]]);
  });

  test("what is held from before a change of the table is replayed into the table as it is now", async () => {
    const renamed = keyed.columns.map((one) => (one.name === "w" ? { ...one, name: "z" } : one));
    const wider = otherwise({ columns: [...renamed, { ...column(4, "x", "integer", 23), missing: 5 }] });
    await go([put(1, 1, 1), put(2, POISON, 2), { op: "u", after: { id: 2, v: POISON } }]);
    await cure(kind, lab); // an engine may not alter a table that has constraints
    line.announce(wider, 4n);
    more(
      { op: "c", after: { id: 3, v: 3, z: 3, x: 3 }, schema: wider },
      { op: "u", after: { id: 2, v: 4, z: 4 }, schema: wider },
    );
    expect((await line.route()).error).toBeNull();
    expect(await heldTexts()).toEqual([['{"id":2}', 3]]);
    await lab.sql(`UPDATE ${lab.nameOf(wider)} SET v = 2 WHERE id = 1`);
    expect((await line.replay()).failed).toEqual([]);
    const found = (await lab.rows(wider)).map((row) => ["id", "v", "z", "x"].map((name) => Number(row[name])));
    expect(found.toSorted(([p = 0], [q = 0]) => p - q)).toEqual([
      [1, 2, 1, 5],
      [2, 4, 4, 5],
      [3, 3, 3, 3],
    ]);
  });

  test("a table without a key stops as under stop", async () => {
    await lab.sql(`DROP TABLE ${lab.nameOf(keyed)}`);
    const type = kind === "mariadb" || kind === "mysql" ? "INT" : "INTEGER";
    await lab.sql(`CREATE TABLE ${lab.nameOf(keyed)} (id ${type} NOT NULL, v ${type}, w ${type}, ${SANE})`);
    line = new PoisonLine(replica, keyless);
    const of = (change: Change): Change => ({ ...change, schema: keyless });
    const { error } = await go([put(1, 1), put(2, POISON), put(3, 3)].map(of));
    expect(error?.code).toBe("CONSTRAINT_VIOLATED");
    expect([await rows(), line.letters]).toEqual([[[1, 1, 0]], []]);
  });
});
