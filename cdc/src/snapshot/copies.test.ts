import { expect, test } from "bun:test";
import { type EventTable, type OwnedEvent, withOwnRows } from "@cascade/shared/change-event";
import { identifySchema } from "@cascade/shared/table-schema";
import { columnSchema } from "@cascade/shared/testing/table-schemas";
import fc from "fast-check";
import { replicaOf } from "../../test/replica-of.ts";
import type { SourceMessage } from "../change-source.ts";
import { type Snapshot, sees } from "../postgres/snapshot.ts";
import { Copies } from "./copies.ts";
import { type CopyState, INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import type { KeyedCopy } from "./keyed-copy.ts";
import type { KeylessCopy } from "./keyless-copy.ts";
import { encodeMark } from "./mark.ts";
import type { OpenChunk } from "./open-chunk.ts";

/**
 * A table that is copied while transactions change it: which of them a snapshot sees, when each becomes visible, when the stream brings it
 * and where cdc is killed are all left to chance. What is published must leave a replica equal to the table.
 */

const column = (name: string, attnum: number) => columnSchema(name, "integer", { attnum, nullable: false });
const SCHEMA = identifySchema({
  schema: "public",
  table: "t",
  oid: 7,
  columns: [column("id", 1), column("n", 2), column("big", 3)],
  key: ["id"],
  identity: "default",
});
const TABLE: EventTable = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: SCHEMA.id };
const CHUNK_ROWS = 3;
const IDS = 12;

interface Row {
  readonly n: number;
  readonly big: number;
}
type Rows = Map<number, Row>;

interface Write {
  readonly op: "c" | "u" | "d" | "t";
  readonly id: number;
  readonly oldId: number;
  readonly row: Row | null;
  /** The update did not touch what is stored out of line. */
  readonly partial: boolean;
}

interface Transaction {
  readonly txId: number;
  readonly writes: readonly Write[];
  visible: boolean;
}

const keyOf = (id: number): string => `{"id":${id}}`;

class World {
  readonly #initial: Rows = new Map();
  readonly #wal: (Transaction | { readonly mark: string })[] = [];
  #txIds = 100;
  #counter = 0;
  #delivered = 0;
  #copies!: Copies;
  #copy: KeyedCopy | null = null;
  #chunk: { chunk: OpenChunk; seen: Snapshot | null; read: boolean } | null = null;
  #saved: CopyState = WAITING;
  readonly events: OwnedEvent[] = [];

  /** @param empties replicas have rows of before, of which the table may have lost any */
  constructor(rows: readonly number[], empties: boolean) {
    for (const id of rows) this.#initial.set(id, { n: 0, big: id });
    if (empties) for (let id = 0; id < IDS; id++) this.events.push(staleRow(id));
    this.#saved = { ...WAITING, empties };
    this.#live(this.#saved);
  }

  #live(state: CopyState): void {
    this.#copies = new Copies(() => undefined);
    this.#chunk = null;
    this.#copy = null;
    if (state.status === "done") return;
    const job = { request: INITIAL, oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
    this.#copy = this.#copies.add(job, state, SCHEMA) as KeyedCopy;
    this.#copies.merge([{ kind: "table", table: TABLE, schema: SCHEMA }], () => undefined);
  }

  rows(seen: (transaction: Transaction) => boolean = () => true): Rows {
    const rows = new Map(this.#initial);
    for (const item of this.#wal) if ("writes" in item && seen(item)) for (const write of item.writes) apply(rows, write);
    return rows;
  }

  /** Rows and tables stay locked until the transaction that wrote them is visible. */
  commit(choices: readonly number[]): void {
    const invisible = this.#wal.filter((item): item is Transaction => "writes" in item && !item.visible);
    const locked = new Set(invisible.flatMap(({ writes }) => writes.flatMap(({ id, oldId }) => [id, oldId])));
    if (invisible.some(({ writes }) => writes.some(({ op }) => op === "t"))) return;
    const rows = this.rows();
    const writes: Write[] = [];
    for (const choice of choices) {
      const write = this.#write(rows, choice, invisible.length === 0);
      if (write === null || locked.has(write.id) || locked.has(write.oldId)) continue;
      apply(rows, write);
      writes.push(write);
    }
    // Ids are given at a transaction's first write, and commits come in any order.
    const txId = this.#txIds + 1 + ((choices[0] ?? 0) % 3);
    const used = this.#wal.some((item) => "writes" in item && item.txId === txId);
    this.#txIds += 3;
    if (writes.length > 0 && !used) this.#wal.push({ txId, writes, visible: false });
  }

  #write(rows: Rows, choice: number, mayTruncate: boolean): Write | null {
    const id = choice % IDS;
    const to = Math.floor(choice / IDS) % IDS;
    const what = Math.floor(choice / IDS / IDS) % 20;
    const old = rows.get(id);
    const n = ++this.#counter;
    if (what === 0 && mayTruncate) return { op: "t", id: -1, oldId: -1, row: null, partial: false };
    if (old === undefined) return { op: "c", id, oldId: id, row: { n, big: n }, partial: false };
    if (what < 4) return { op: "d", id, oldId: id, row: null, partial: false };
    const partial = what % 2 === 0;
    const row = { n, big: partial ? old.big : n };
    const moves = what > 12 && !rows.has(to) && to !== id;
    return { op: "u", id: moves ? to : id, oldId: id, row, partial };
  }

  show(choice: number): void {
    const invisible = this.#wal.filter((item): item is Transaction => "writes" in item && !item.visible);
    const one = invisible[choice % Math.max(1, invisible.length)];
    if (one !== undefined) one.visible = true;
  }

  deliver(count: number): void {
    const messages: SourceMessage[] = [];
    for (; count > 0 && this.#delivered < this.#wal.length; count--) messages.push(...this.#messages(this.#delivered++));
    for (const message of this.#copies.merge(messages, () => undefined))
      if (message.kind === "change") this.events.push(withOwnRows(message.event));
    if (this.#copy?.published()) this.#saved = this.#copy.state;
    // A key to be read again is written down before its event is confirmed.
    if (this.#copy !== null) this.#saved = { ...this.#saved, reread: this.#copy.state.reread };
    this.#finish();
  }

  #finish(): void {
    if (this.#copy === null || this.#copy.next() !== "done") return;
    this.#copies.remove(this.#copy);
    this.#copy = null;
    this.#saved = { ...this.#saved, status: "done" };
  }

  #messages(at: number): readonly SourceMessage[] {
    const item = this.#wal[at];
    const commitLsn = BigInt(at + 1);
    if (item === undefined) return [];
    if ("mark" in item) {
      const transaction = { txId: 1, commitLsn, committedAtMs: 0 };
      const content = encodeMark({ id: item.mark, schema: "public", table: "t" });
      return [{ kind: "mark", prefix: "cascade.snapshot", content, transaction, ordinal: 0, lsn: 0n, table: TABLE }];
    }
    const transaction = { txId: item.txId, commitLsn, committedAtMs: 0 };
    return item.writes.map(({ op, id, oldId, row, partial }, ordinal) => ({
      kind: "change",
      event: {
        op,
        table: TABLE,
        transaction,
        ordinal,
        lsn: 0n,
        key: op === "t" ? null : keyOf(id),
        before: op === "u" || op === "d" ? keyOf(oldId) : null,
        after: row === null ? null : partial ? `{"id":${id},"n":${row.n}}` : textOf(id, row),
      },
    }));
  }

  /** The reader's next step: begin, look, read or mark. */
  read(): void {
    if (this.#copy === null) return;
    if (this.#copy.needsBegin) {
      this.#wal.push({ mark: this.#copy.beginId });
      this.#copy.beginMarked();
    } else if (this.#chunk === null) {
      const plan = this.#copy.next();
      if (plan !== null && plan !== "done")
        this.#chunk = { chunk: this.#copy.begin(plan, this.#copies.mustSee()), seen: null, read: false };
    } else if (this.#chunk.seen === null) this.#look(this.#copy, this.#chunk);
    else if (!this.#chunk.read) this.#readRows(this.#copy, this.#chunk.chunk, this.#chunk.seen);
    else {
      this.#wal.push({ mark: this.#chunk.chunk.id });
      this.#chunk = null;
    }
  }

  #look(copy: KeyedCopy, state: { chunk: OpenChunk; seen: Snapshot | null }): void {
    const invisible = this.#wal.flatMap((item) => ("writes" in item && !item.visible ? [BigInt(item.txId)] : []));
    const snapshot = { end: BigInt(this.#txIds + 1), underWay: new Set(invisible) };
    if (copy.found(state.chunk, { snapshot, schema: SCHEMA })) {
      state.seen = snapshot;
      this.#copies.saw(snapshot);
    } else {
      copy.giveUp(state.chunk);
      this.#chunk = null;
    }
  }

  /** As the snapshot saw it, whatever has been committed since. */
  #readRows(copy: KeyedCopy, chunk: OpenChunk, seen: Snapshot): void {
    const all = [...this.rows(({ txId }) => sees(seen, txId))].sort(([a], [b]) => a - b);
    const { plan } = chunk;
    const after = plan.kind === "range" && plan.after !== null ? Number(/\d+/.exec(plan.after)?.[0]) : -1;
    const wanted =
      plan.kind === "range"
        ? all.filter(([id]) => id > after).slice(0, CHUNK_ROWS)
        : all.filter(([id]) => plan.keys.includes(keyOf(id)));
    const rows = wanted.map(([id, row]): readonly [string, string] => [keyOf(id), textOf(id, row)]);
    copy.read(chunk, { rows, last: plan.kind === "rows" || rows.length < CHUNK_ROWS });
    if (this.#chunk !== null) this.#chunk.read = true;
  }

  /** cdc dies and comes back: with the state that is written down, at a commit that was not confirmed yet. */
  crash(choice: number): void {
    // What a former life has delivered is visible before the next one reads.
    for (const item of this.#wal.slice(0, this.#delivered)) if ("writes" in item) item.visible = true;
    this.#delivered -= choice % (this.#delivered + 1);
    this.#live(this.#saved);
  }

  finish(): void {
    for (let round = 0; this.#copy !== null; round++) {
      if (round > 10_000) throw new Error("the copy does not end");
      for (const item of this.#wal) if ("writes" in item) item.visible = true;
      this.read();
      this.deliver(1000);
      this.#finish();
    }
    this.deliver(1000);
  }
}

const textOf = (id: number, { n, big }: Row): string => `{"id":${id},"n":${n},"big":${big}}`;

const staleRow = (id: number): OwnedEvent => {
  const transaction = { txId: 1, commitLsn: 0n, committedAtMs: 0 };
  const after = textOf(id, { n: -1, big: -1 });
  return { op: "c", table: TABLE, transaction, ordinal: id, lsn: 0n, key: keyOf(id), before: null, after };
};

function apply(rows: Rows, { op, id, oldId, row }: Write): void {
  if (op === "t") rows.clear();
  rows.delete(oldId);
  if (row !== null) rows.set(id, row);
}

const step = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant("commit" as const), fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 4 })) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("show" as const), fc.nat(10)) },
  { weight: 4, arbitrary: fc.tuple(fc.constant("deliver" as const), fc.integer({ min: 1, max: 3 })) },
  { weight: 8, arbitrary: fc.tuple(fc.constant("read" as const), fc.constant(0)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("crash" as const), fc.nat(20)) },
);

test("whatever comes between, what is published leaves a replica equal to the table", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(IDS - 1)), fc.boolean(), fc.array(step, { maxLength: 80 }), (ids, empties, steps) => {
      const world = new World(ids, empties);
      for (const [what, choice] of steps) {
        if (what === "commit") world.commit(choice);
        else if (what === "show") world.show(choice);
        else if (what === "deliver") world.deliver(choice);
        else if (what === "read") world.read();
        else world.crash(choice);
      }
      world.finish();
      const expected = [...world.rows()].map(([id, row]): [string, string] => [keyOf(id), textOf(id, row)]).sort();
      expect([...replicaOf(world.events, ["id"])].sort()).toEqual(expected);
    }),
    { numRuns: Number(process.env["SNAPSHOT_RUNS"] ?? 3000) },
  );
});

test("what comes of a table that has left may miss its rows, where it is copied anew when it is back", () => {
  const transaction = { txId: 5, commitLsn: 9n, committedAtMs: 0 };
  const change = { op: "u", table: TABLE, transaction, ordinal: 0, lsn: 9n, key: null, before: null, after: "{}" } as const;
  for (const fillsReturned of [true, false]) {
    const copies = new Copies(() => undefined, { fillsReturned });
    copies.merge([{ kind: "table", table: TABLE, schema: SCHEMA }], () => undefined);
    const fills = () =>
      copies
        .merge([{ kind: "change", event: change }], () => undefined)
        .map((message) => message.kind === "change" && message.event.table.filling === true);
    expect(fills()).toEqual([false]);
    copies.left(SCHEMA.oid);
    expect(fills()).toEqual([fillsReturned]);
    expect([copies.returned(SCHEMA.oid), copies.returned(SCHEMA.oid)]).toEqual([true, false]);
    expect(fills()).toEqual([false]);
  }
});

test("rows may be missing on the replicas alone that are copied", () => {
  const transaction = { txId: 5, commitLsn: 9n, committedAtMs: 0 };
  const change = { op: "u", table: TABLE, transaction, ordinal: 0, lsn: 9n, key: null, before: null, after: "{}" } as const;
  const copies = new Copies(() => undefined);
  copies.merge([{ kind: "table", table: TABLE, schema: SCHEMA }], () => undefined);
  const marks = () =>
    copies
      .merge([{ kind: "change", event: change }], () => undefined)
      .map((message) => message.kind === "change" && [message.event.table.filling, message.event.table.fillingFor]);
  const job = (request: string, replica: string | null) => ({
    ...{ request, replica, oid: 7, name: { schema: "public", table: "t" }, range: WHOLE },
  });
  const emptied = { ...WAITING, begun: true, mayBeEmpty: true };
  copies.add(job("one", "east"), emptied, SCHEMA);
  expect(marks()).toEqual([[true, "east"]]);
  copies.add(job("other", "west"), emptied, SCHEMA);
  expect(marks()).toEqual([[true, "east,west"]]);
  copies.add(job(INITIAL, null), WAITING, SCHEMA);
  expect(marks()).toEqual([[true, undefined]]);
});

test("what a copy of a former life contains is for nobody when the slot tells it again, until the stream is past it", () => {
  const copies = new Copies(() => undefined);
  const merge = (...messages: readonly SourceMessage[]) => copies.merge(messages, () => undefined).map(({ kind }) => kind);
  const change = (commitLsn: bigint) => {
    const transaction = { txId: 5, commitLsn, committedAtMs: 0 };
    const event = { op: "c", table: TABLE, transaction, ordinal: 0, lsn: 9n, key: null, before: null, after: "{}" } as const;
    return { kind: "change", event } as const;
  };
  const commit = (endLsn: bigint) => ({ kind: "commit", endLsn, committedAtMs: 0 }) as const;
  merge({ kind: "table", table: TABLE, schema: SCHEMA });
  copies.contain(SCHEMA.oid, 20n);
  expect(merge(change(10n), commit(11n), change(20n), commit(21n), change(30n))).toEqual(["commit", "commit", "change"]);
  // Not told again in this life: it is not looked at any more.
  expect(merge(change(10n))).toEqual(["change"]);
});

test("what is held of a table without a key goes out before it is told that the table looks otherwise", () => {
  const copies = new Copies(() => undefined);
  const job = { request: "asked", oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const copy = copies.add(job, WAITING, { key: [] }) as KeylessCopy;
  const keyless = identifySchema({ ...SCHEMA, key: [] });
  const transaction = { txId: 5, commitLsn: 9n, committedAtMs: 0 };
  const place = { transaction, ordinal: 0, lsn: 9n };
  const event = { ...place, op: "c", table: TABLE, key: null, before: null, after: "{}" } as const;
  copies.merge([{ kind: "table", table: TABLE, schema: keyless }], () => undefined);
  copy.arrive({ ...place, kind: "mark", prefix: "", content: "", table: TABLE }, keyless);
  const merge = (message: SourceMessage) => copies.merge([message], () => undefined).map(({ kind }) => kind);
  expect(merge({ kind: "change", event })).toEqual([]);
  const schema = identifySchema({ ...keyless, table: "u" });
  expect(merge({ kind: "schema", schema, topic: TABLE.topic, change: true, at: { commitLsn: 9n, ordinal: 1 } })).toEqual([
    "change",
    "schema",
  ]);
});
