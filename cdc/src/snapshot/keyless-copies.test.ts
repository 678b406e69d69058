import { describe, expect, test } from "bun:test";
import { CascadeError } from "@cascade/shared/errors";
import { CopyingLab, type Message, schemaOf } from "../../test/copying-lab.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { decodeState } from "./signals.ts";
import { initialJob } from "./snapshotter.ts";

/** Tables without a key that are altered, refused or gone while they are copied: what comes of their changes, and what another life knows. */

const T = schemaOf("t");
const U = schemaOf("u");
const KEYED = schemaOf("t", ["id"]);
const row = (text: string) => [null, text] as const;
const asked = (replica: string | null, request = "asked") => ({ request, oid: T.oid, name: T, replica, range: WHOLE });
const BEGUN = { ...WAITING, begun: true };
const stateIn = ({ log }: CopyingLab) => {
  const state = decodeState([...log.values()][0] ?? "");
  if (state === null) throw new Error("nothing was written down");
  return state;
};
const refusal = () =>
  new CascadeError({ code: "MISSING_RIGHT", verdict: "stop-table", message: "row level security hides rows", advice: "" });

test.each([null, "r1"])("a requested copy (%p) that is altered when some of it is out still has begun", async (replica) => {
  const lab = new CopyingLab(T).known();
  lab.snapshotter.add(asked(replica), WAITING, T);
  lab.rows = [[row("a")], [row("b")]];
  lab.steps.between = async () => {
    lab.steps = {};
    lab.holdsMarks = true;
    lab.alter(U); // ALTER SCHEMA … RENAME takes no lock of the table
    await lab.until(() => lab.out.includes("is u()"));
  };
  lab.run();
  await lab.until(() => lab.areMarksHeld);
  // Of a row that was not copied yet: not for whoever has the part.
  lab.say(lab.change("u", "b"));
  await lab.caughtUp();
  lab.releaseMarks();
  await lab.until(() => lab.isDone);
  const one = replica === null ? "" : ` for ${replica}`;
  const others = replica === null ? [] : [`u b not for ${replica}`];
  expect(lab.out).toEqual([`t${one}`, `r a${one}`, "is u()", ...others, `t${one}`, `r a${one}`, `r b${one}`]);
  expect(lab.written.filter((state) => !state.includes("begun"))).toEqual([]);
  await lab.end();
});

test("what another life must know is written down, too, where a copy that begins anew had not begun", async () => {
  const lab = new CopyingLab(T);
  await lab.snapshotter.save([lab.snapshotter.add(initialJob(T), WAITING, T)]);
  lab.rows = [[row("a"), row("b")], [row("c")]];
  lab.steps.found = async () => {
    delete lab.steps.found;
    lab.alter(U);
    await lab.until(() => lab.out.includes("is u()"));
  };
  lab.steps.between = () => (lab.out.includes("t") ? new Promise(() => undefined) : undefined);
  lab.run();
  await lab.until(() => lab.out.includes("r b"));
  lab.say(lab.change("d", "a"));
  await lab.until(() => lab.isConfirmed);
  // Held, and main-db may forget it. cdc dies, and the table gets a key.
  const { job, state } = stateIn(lab);
  const next = new CopyingLab(KEYED, lab);
  next.rows = [[row("b"), row("c")]];
  next.snapshotter.add(job, state, KEYED);
  next.run();
  await next.until(() => next.isDone);
  expect(next.out).toEqual(["t", "r b", "r c"]);
  await next.end();
});

describe.each([
  ["a key", schemaOf("t", ["id"])],
  ["another type", schemaOf("t", [], "bigint")],
] as const)("what a first copy keeps back is for no other life once it is told that the table has %s", (_, to) => {
  test.each([
    ["before the copy begins", false],
    ["while it waits for its mark", true],
  ])("%s", async (_, hasBegun) => {
    const lab = new CopyingLab(T);
    await lab.snapshotter.save([lab.snapshotter.add(initialJob(T), WAITING, T)]);
    lab.holdsMarks = true;
    const [, isThere] = lab.altered(T);
    if (!hasBegun) lab.say(isThere as Message, lab.change("c", "a"));
    lab.run();
    await lab.until(() => lab.areMarksHeld);
    if (hasBegun) lab.say(lab.change("c", "a"));
    await lab.caughtUp();
    const keptBack = hasBegun ? lab.lsn : 2n;
    const written: unknown[] = [];
    lab.out.push = (told) => {
      if (told.startsWith("is")) written.push(stateIn(lab).state.contains);
      return Array.prototype.push.call(lab.out, told);
    };
    lab.alter(to);
    await lab.until(() => lab.out.length > 0);
    expect(lab.out).toEqual([to.key.length > 0 ? "is t(id)" : "is t()"]);
    expect(written).toEqual([keptBack]);
    lab.releaseMarks();
    await lab.until(() => lab.isDone);
    await lab.end();
  });
});

test("a table that gets a key after deletes were kept back is emptied before it is copied by chunks, by another life too", async () => {
  const wider = schemaOf("t", [], "bigint");
  const lab = new CopyingLab(T).known(); // replicas have a and b
  lab.rows = [[row("b")]];
  lab.holdsMarks = true;
  lab.run();
  await lab.caughtUp();
  lab.alter(wider, { rewritten: true });
  await lab.until(() => lab.areMarksHeld);
  lab.say(lab.change("d", "a"));
  await lab.until(() => lab.isConfirmed);
  const { job, state } = stateIn(lab);
  const next = new CopyingLab(schemaOf("t", ["id"], "bigint"), { log: new Map(), lsn: lab.lsn });
  next.rows = [[row("b")]];
  next.snapshotter.add(job, state, KEYED);
  next.run();
  await next.until(() => next.isDone);
  expect(next.out).toEqual(["t", "r b"]);
  await next.end();
  lab.alter(schemaOf("t", ["id"], "bigint"));
  lab.releaseMarks();
  await lab.until(() => lab.isDone);
  expect(lab.out).toEqual(["is t()", "is t(id)", "t", "r b"]);
  await lab.end();
});

test.each([
  ["before", BEGUN, []],
  ["never", WAITING, ["u b"]],
] as const)(
  "where the catalog is ahead of the stream what is held goes to those who have their rows: it had begun %s",
  async (_, state, held) => {
    const lab = new CopyingLab(T).known();
    lab.snapshotter.add(asked(null), state, T);
    lab.rows = [[row("b")]];
    lab.steps.before = async () => {
      lab.steps = {};
      lab.say(lab.change("u", "b"));
      await lab.caughtUp();
      lab.catalog = U;
      lab.holdsMarks = true;
    };
    lab.run();
    await lab.until(() => lab.areMarksHeld);
    await lab.caughtUp();
    expect(lab.out).toEqual([...held]);
    lab.alter(U);
    lab.releaseMarks();
    await lab.until(() => lab.isDone);
    expect(lab.out).toEqual([...held, "is u()", "t", "r b"]);
    await lab.end();
  },
);

test.each([null, "r1"])("of two requested copies that which has begun (for %p) goes first", async (replica) => {
  const lab = new CopyingLab(T).known();
  lab.snapshotter.add(asked("r2", "second"), WAITING, T);
  lab.snapshotter.add(asked(replica, "first"), BEGUN, T);
  lab.rows = [[row("a")], [row("b")]];
  lab.steps.between = async () => {
    lab.steps = {};
    lab.say(lab.change("u", "b"));
    await lab.caughtUp();
  };
  lab.run();
  await lab.until(() => lab.isDone);
  const one = replica === null ? "" : ` for ${replica}`;
  expect(lab.out).toEqual([`t${one}`, `r a${one}`, `r b${one}`, "u b", "t for r2", "r a for r2", "r b for r2"]);
  await lab.end();
});

test.each([null, "r1"])(
  "a requested copy (for %p) that is refused before any of it is out lets all go that it held",
  async (replica) => {
    const lab = new CopyingLab(T).known();
    lab.snapshotter.add(asked(replica), WAITING, T);
    lab.steps = {
      before: async () => {
        lab.say(lab.change("c", "x")); // the snapshot will see it
        await lab.caughtUp();
      },
      found: () => {
        throw refusal();
      },
    };
    lab.run();
    await lab.until(() => lab.written.length > 0);
    lab.say(lab.change("u", "x"));
    await lab.until(() => lab.isConfirmed);
    expect(lab.out).toEqual(["c x", "u x"]);
    await lab.end();
  },
);

test("a copy for all that is refused when some of it is out is tried again: replicas have a part of the table alone", async () => {
  const lab = new CopyingLab(T).known();
  lab.snapshotter.add(asked(null), WAITING, T);
  lab.rows = [[row("a")], [row("b")]];
  lab.steps.between = async () => {
    lab.say(lab.change("u", "b"));
    await lab.caughtUp();
    throw refusal();
  };
  lab.run();
  await lab.until(() => lab.written.length > 1);
  await lab.caughtUp();
  expect(lab.out).toEqual(["t", "r a"]);
  expect(lab.written.at(-1)).toBe("copying begun");
  await lab.end();
});

test("where the table is gone for the catalog, and not for the stream yet, what is held goes out", async () => {
  const lab = new CopyingLab(T).known();
  lab.snapshotter.add(asked(null), WAITING, T);
  lab.steps.before = async () => {
    lab.say(lab.change("c", "x"));
    await lab.caughtUp();
    lab.catalog = null;
  };
  lab.run();
  await lab.until(() => lab.isDone);
  lab.say(lab.change("u", "x"));
  lab.say(() => ({ kind: "left", oid: T.oid, schema: "public", table: "t" }));
  await lab.until(() => lab.isConfirmed);
  expect(lab.out).toEqual(["c x", "u x"]);
  expect(lab.written[0]).toBe("failed");
  await lab.end();
});

test("what a copy that is out contains is for nobody, in one delivery with a rewrite that comes after it too", async () => {
  const lab = new CopyingLab(T);
  const copy = lab.snapshotter.add(initialJob(T), WAITING, T);
  expect(copy.job.request).toBe(INITIAL);
  lab.rows = [[row("a"), row("x")]];
  let late = { txId: 0, commitLsn: 0n, committedAtMs: 0 };
  lab.steps.before = () => {
    lab.steps = {};
    late = lab.transaction(); // x is there for the snapshot, and the stream is behind
    lab.holdsMarks = true;
  };
  lab.run();
  await lab.until(() => lab.areMarksHeld);
  const inserted = lab.change("c", "x")(late);
  const rewriting = lab.transaction();
  lab.deliver([inserted, ...lab.altered(KEYED, { rewritten: true }).map((message) => message(rewriting))]);
  lab.releaseMarks();
  await lab.until(() => lab.isDone);
  expect(lab.out).toEqual(["t", "r a", "r x", "c x for nobody", "is t(id)", "t", "r a", "r x"]);
  await lab.end();
});

const CHUNKED = { ...WAITING, status: "copying", after: "b", keyShape: "[]", rows: 2 } as const;

test.each(["before", "after"])(
  "a table copied by chunks, then whole, then by chunks: three lives, the second killed %s its truncate",
  async (when) => {
    const whole = new CopyingLab(T);
    whole.rows = [[row("a"), row("c")]];
    whole.snapshotter.add(initialJob(KEYED), CHUNKED, T); // the first has published a and b
    whole.holdsMarks = when === "before";
    whole.steps.between = () => new Promise(() => undefined);
    whole.rows.push([row("d")]);
    whole.run();
    await whole.until(() => (when === "before" ? whole.areMarksHeld : whole.out.includes("r c")));
    whole.say(whole.change("d", "b"));
    await whole.until(() => whole.isConfirmed);
    const { job, state } = stateIn(whole);
    const next = new CopyingLab(KEYED, whole);
    next.rows = [[row("a"), row("c"), row("d")]];
    next.snapshotter.add(job, state, KEYED);
    next.run();
    await next.until(() => next.isDone);
    expect(next.out).toEqual(["t", "r a", "r c", "r d"]);
    await next.end();
    await whole.end();
  },
);

test("a requested copy ends where polls bring no more than a part of what came meanwhile", async () => {
  const lab = new CopyingLab(T).known();
  lab.polled = 10;
  lab.snapshotter.add(asked(null), WAITING, T);
  lab.rows = [[row("a")], [row("b")]];
  lab.steps.between = () => {
    for (let n = 0; n < 30; n++) lab.say(lab.change("u", `x${n}`));
  };
  lab.run();
  await lab.until(() => lab.isDone && lab.isConfirmed);
  expect(lab.out).toEqual(["t", "r a", "r b", ...Array.from({ length: 30 }, (_, n) => `u x${n}`)]);
  await lab.end();
});

test("what was held is not confirmed before it is published, though its copy is refused", async () => {
  const lab = new CopyingLab(T).known();
  lab.snapshotter.add(asked(null), WAITING, T);
  const published = Promise.withResolvers<void>();
  let before = 0n;
  lab.steps.before = async () => {
    lab.say(lab.change("c", "x"));
    await lab.caughtUp();
    before = lab.confirmed;
    lab.publishing = published.promise;
    throw refusal();
  };
  lab.run();
  await lab.until(() => before > 0n);
  await Bun.sleep(20); // the offer is taken
  lab.confirmWanted();
  expect([lab.confirmed, lab.out]).toEqual([before, []]);
  published.resolve();
  await lab.until(() => lab.isConfirmed);
  expect(lab.out).toEqual(["c x"]);
  await lab.end();
});

test("a copy for all that was begun whole, and is refused by chunks, is tried again", async () => {
  const lab = new CopyingLab(KEYED).known();
  lab.snapshotter.add(asked(null), BEGUN, KEYED);
  lab.steps.found = () => {
    throw refusal();
  };
  lab.run();
  await lab.until(() => lab.written.length > 1);
  await lab.caughtUp();
  expect([lab.out, lab.written.filter((state) => state.includes("failed"))]).toEqual([["t"], []]);
  expect(lab.isDone).toBe(false);
  await lab.end();
});

test("what is for none of two replicas whose copies have begun is for the others alone", async () => {
  const lab = new CopyingLab(T).known();
  lab.holdsMarks = true;
  lab.snapshotter.add(asked("r1", "first"), BEGUN, T);
  lab.snapshotter.add(asked("r2", "second"), BEGUN, T);
  lab.run();
  lab.say(lab.change("u", "b"));
  await lab.until(() => lab.isConfirmed);
  expect(lab.out).toEqual(["u b not for r1,r2"]);
  await lab.end();
});

test("a copy that was taken out while it was read is not begun anew beside the one in its place", async () => {
  const lab = new CopyingLab(KEYED);
  lab.snapshotter.add(initialJob(KEYED), WAITING, KEYED);
  lab.rows = [[row("a")]];
  lab.steps.before = async () => {
    lab.steps = {};
    lab.alter(T, { rewritten: true });
    await lab.until(() => lab.out.includes("is t()"));
  };
  lab.run();
  await lab.until(() => lab.isDone);
  expect(lab.out).toEqual(["is t()", "t", "r a"]);
  await lab.end();
});

test("nor where its table has left meanwhile, which is not to be forgotten", async () => {
  const lab = new CopyingLab(KEYED);
  lab.snapshotter.add(initialJob(KEYED), WAITING, KEYED);
  lab.steps.before = async () => {
    lab.catalog = T;
    lab.say(() => ({ kind: "left", oid: T.oid, schema: "public", table: "t" }));
    await lab.until(() => lab.isDone);
  };
  lab.run();
  await lab.until(() => lab.isDone && lab.isConfirmed);
  await lab.caughtUp();
  lab.say(); // what is noted is written down before it is confirmed
  await lab.until(() => lab.isConfirmed);
  expect([lab.written, lab.isDone]).toEqual([["left"], true]);
  await lab.end();
});
