import type { ReceivedEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName, tableOfTopic, topicOf } from "@cascade/shared/topic";
import { awaitedCopy, type LostPlace, lostBefore } from "./awaited-copy.ts";
import type { AskedCopy } from "./copy-requests.ts";
import type { ReplicaTable } from "./dialect.ts";
import type { Partition } from "./event-consumer.ts";
import { Fence, type FenceOptions, justBefore } from "./fence.ts";
import { KeyRefusedError } from "./key-refused.ts";
import { type Meeting, PartitionFence } from "./partition-fence.ts";
import type { Progress, RememberedTable, Replica, TableChange } from "./replica.ts";
import { describeSteps, type SchemaPolicy } from "./schema-change.ts";
import { isSameName, type SchemaVersion } from "./schema-history.ts";
import { bringChanges, dropChanges, emptied } from "./table-changes.ts";
import { WaitingError } from "./waiting.ts";

/** People may change a table in a way that no statement of ours fails at, and that rounds values from then on: it is looked at again. */
const RECHECK_MS = 5_000;
/** How often all tables are compared with main-db's. */
const REVIEW_MS = 60_000;

/** The step that a change of tables takes with it: from the progress of the partition whose row, or end, asks for it. */
export interface Place {
  readonly partition: Partition;
  readonly from: Progress | null;
  /** Of the first event that is not applied yet. */
  readonly nextOffset: bigint;
}

export interface TableBookOptions extends Omit<FenceOptions, "progress"> {
  readonly replica: Pick<Replica, "prepare" | "remembered" | "change" | "apply" | "progress" | "progressOf" | "held">;
  /** ROUTER_DDL. */
  readonly policy: SchemaPolicy;
  /** The progress moved with a change of tables. */
  moved(advance: Parameters<Replica["change"]>[1]): void;
  /** A table was changed: `what`, in words. Names only. `now`: what it is called from here on. */
  changed(name: TableName, what: string, now: TableName): void;
  /** Rows of the replica's table are not main-db's: it is emptied. Without this it is not, where nobody would ask for its copy. */
  keyRefused?(name: TableName, error: KeyRefusedError): void;
  /** Other rows of the table are this replica's by the second schema than by the first: it is emptied, and waits for a copy. */
  isDividedAnew?(from: TableSchema, to: TableSchema, rewritten: boolean): boolean;
  /** Before a table is brought to the schema; rejects where other rules than this router's say whose its rows are. */
  agreeToBring?(schema: TableSchema): Promise<void>;
}

/** How a row of a schema stands to the replica's table. */
export type Standing =
  /** Its table is like this, or past this: then the row is mapped. */
  | { readonly kind: "ready"; readonly table: ReplicaTable; readonly remembered: RememberedTable }
  /** Its table is no more on main-db, nor shall be here. */
  | { readonly kind: "gone" }
  /** The table must be brought to the schema first. `seen`: its revision as it was looked at; null where nothing is remembered of it. */
  | { readonly kind: "change"; readonly seen: number | null };

/** What led to a change. */
interface Decided {
  /** As Standing's. */
  readonly seen?: number | null;
  readonly elsewhere?: boolean;
}

type Tables = Map<number, RememberedTable>;

/** Of all tables, under way. */
interface Reading {
  /** What was to be read anew before then is in it. */
  readonly version: number;
  readonly tables: Promise<Tables>;
}

/** The replica's tables: what each is like now, and what it must become for main-db's rows. */
export class TableBook {
  readonly #options: TableBookOptions;
  readonly #fence: Fence;
  readonly #partitions: PartitionFence;
  readonly #prepared = new Map<
    number,
    { readonly table: ReplicaTable; readonly revision: number; readonly checkedAtMs: number }
  >();
  /** Columns that take NULL although their schema says otherwise, by the table's oid. */
  readonly #relaxed = new Map<number, ReadonlySet<string>>();
  readonly #suspects = new Set<number>();
  #remembered: Tables | null = null;
  #reading: Reading | null = null;
  /** Grows whenever what is remembered is to be read anew. */
  #version = 0;
  /** Of those, the ones that wait for a copy. */
  #awaited: readonly RememberedTable[] = [];
  #lastRead: Tables = new Map();
  #reviewedAtMs = performance.now();

  constructor(options: TableBookOptions) {
    this.#options = options;
    this.#fence = new Fence({ ...options, progress: (partition) => options.replica.progress(partition) });
    this.#partitions = new PartitionFence(options);
  }

  /** `place`: for a table that is to be made anew, for nothing was ever applied to it. */
  async standing(schema: TableSchema, position: Position, place: Place): Promise<Standing> {
    const remembered = (await this.#all()).get(schema.oid);
    const { history, policy } = this.#options;
    if (policy === "apply" && history.newest(schema.oid) === null) return { kind: "gone" };
    if (remembered === undefined) return { kind: "change", seen: null };
    const isOld = comparePositions(position, remembered.at) < 0;
    const isSame = remembered.schema.id === schema.id;
    if (
      !isOld &&
      (!isSame || this.#fence.movedAt(schema, position, remembered) !== null || this.#isBack(schema, position, remembered))
    )
      return { kind: "change", seen: remembered.revision };
    return { kind: "ready", table: await this.#prepare(remembered, place), remembered };
  }

  /**
   * Brings the table to the schema, which main-db's has at `position`; does nothing where it is not as it was `seen` any more. Where its rows
   * do not allow the key, which proves them wrong, it is emptied and waits for a copy, which is then to be asked for. Rejects with WaitingError
   * while rows must come first, with a CascadeError that stops the table when the policy or the replica do not let it be changed. `elsewhere`:
   * the place is of another topic than the schema's.
   */
  async bring(schema: TableSchema, position: Position, place: Place, { seen, elsewhere = false }: Decided = {}): Promise<void> {
    const { history, policy, prefix, keyRefused } = this.#options;
    const all = await this.#all();
    // Another router may have brought it past this schema, and back there its newer columns would go.
    if (seen !== undefined && seen !== revisionIn(all, schema)) return;
    await this.#passFence(schema, position, place, elsewhere);
    await this.#options.agreeToBring?.(schema);
    const at = history.startOf(schema, position);
    const bringing = { schema, at, history, policy, mayCreate: this.#mayCreate(schema, place) };
    const copy = awaitedCopy([{ topic: topicOf(prefix, schema), isDivided: false }]); // where its rows have to go
    const from = all.get(schema.oid);
    if (from !== undefined && this.#options.isDividedAnew?.(from.schema, schema, history.isRewritten(schema.oid, from.at, at))) {
      await this.#change(emptied(bringChanges({ ...bringing, all }), copy, schema.oid), place);
      return;
    }
    try {
      await this.#change(bringChanges({ ...bringing, all }), place);
    } catch (error) {
      // The copy comes under the newest name.
      const isTaken = this.takes(history.newest(schema.oid)?.schema ?? schema);
      if (!(error instanceof KeyRefusedError) || keyRefused === undefined || !isTaken) throw error;
      this.reread(); // what is done of it already, where DDL is no part of a transaction
      const now = await this.#all();
      if (revisionIn(now, schema) !== revisionIn(all, schema)) throw error; // looked at again before it is tried again
      await this.#change(emptied(bringChanges({ ...bringing, all: now }), copy), place);
      keyRefused(schema, error);
    }
  }

  /** See Fence: null where no table has ever been renamed, which is quick to see. */
  async leavings(): Promise<((schema: TableSchema) => Position | null) | null> {
    if (!this.#options.history.hasRenamed) return null;
    const all = await this.#all();
    return (schema) => this.#fence.leftAt(schema, all.get(schema.oid));
  }

  /**
   * Whether the schema has come back since the table was brought to it: what came between may be in other partitions alone, and has its rows
   * before this one.
   */
  #isBack(schema: TableSchema, position: Position, { at }: RememberedTable): boolean {
    const { history } = this.#options;
    return history.partitionsOf(schema) > 1 && comparePositions(history.startOf(schema, position), at) > 0;
  }

  /** The first of these events of one schema, up to where the table came back to its name (see Fence), or to the schema in one of several partitions. */
  beforeReturn<Event extends Position>(schema: TableSchema, events: readonly Event[], at: RememberedTable): readonly Event[] {
    const ofName = this.#fence.beforeReturn(schema, events, at);
    const { history } = this.#options;
    const [first] = ofName;
    if (first === undefined || history.partitionsOf(schema) === 1) return ofName;
    const next = history.nextAfter(schema.oid, first);
    const end = next === null ? -1 : ofName.findIndex((event) => comparePositions(event, next) >= 0);
    return end < 0 ? ofName : ofName.slice(0, end);
  }

  /** See PartitionFence. */
  firstMeeting(events: readonly ReceivedEvent[], schema: TableSchema, start = 0): number {
    return this.#partitions.firstMeeting(events, schema, start);
  }

  /** See PartitionFence. `place`: of the event. */
  meet(event: ReceivedEvent, schema: TableSchema, place: Place): Promise<Meeting> {
    return this.#orReach(this.#partitions.meet(event, place.partition, schema), justBefore(event), place);
  }

  /** Work has renewed what is remembered of the table. */
  renewed({ oid }: Pick<RememberedTable, "oid">): void {
    const [all, table] = [this.#remembered, this.#remembered?.get(oid)];
    if (all === null || table === undefined) return;
    const tables = new Map(all).set(oid, { ...table, revision: table.revision + 1 });
    this.#note(tables);
    this.#remembered = tables;
  }

  /** The tables that wait for a copy, by their newest names: those that main-db still has. One that is not taken by its name now may come back. */
  async awaited(): Promise<readonly AskedCopy[]> {
    await this.#all();
    const { history } = this.#options;
    return this.#awaited.flatMap(({ oid, schema: remembered, awaiting }) => {
      const newest = history.newest(oid);
      const { schema, table } = newest?.schema ?? remembered;
      return awaiting === null || newest === null ? [] : [{ copy: awaiting, table: { oid, schema, table } }];
    });
  }

  /**
   * From here on the table waits for another copy, whatever it waited for before: the beginning of that may be gone from Kafka as well. It is
   * made where it is not there, for all its rows are to come. Resolves to the copy's name.
   */
  async await(schema: TableSchema, place: Place): Promise<string> {
    const { history, policy } = this.#options;
    const all = await this.#all();
    const table = all.get(schema.oid);
    const copy = awaitedCopy([...lostBefore(table?.awaiting ?? ""), this.#lostPlace(place.partition.topic)]);
    if (table !== undefined) {
      await this.#change([{ kind: "await", from: table, awaiting: copy }], place, place.nextOffset);
      return copy;
    }
    const at = history.startOf(schema, place.from ?? NOWHERE);
    const changes = bringChanges({ schema, at, history, policy, all, mayCreate: true });
    // With the step past what Kafka has lost, or nobody would know of it any more.
    const awaited = changes.map((change) => (change.kind === "create" ? { ...change, awaiting: copy } : change));
    await this.#change(awaited, place, place.nextOffset);
    return copy;
  }

  /**
   * Whether the partition's events from `at` on have all rows of a table that is empty there, also of those that Kafka has lost: what was lost
   * in another topic came before the table was called what it is there.
   */
  isAfterLoss({ oid, awaiting }: RememberedTable, at: Position, here: Partition): boolean {
    const { history, prefix } = this.#options;
    return lostBefore(awaiting ?? "").every(({ topic, isDivided }) => {
      if (topic === here.topic) return !isDivided;
      const name = tableOfTopic(prefix, topic);
      return name === null || history.isFormerName(oid, name, at);
    });
  }

  #lostPlace(topic: string): LostPlace {
    const { history, prefix } = this.#options;
    const name = tableOfTopic(prefix, topic);
    return { topic, isDivided: name !== null && history.partitionsOf(name) > 1 };
  }

  /** Whether this replica takes the table by that name. */
  takes(name: TableName): boolean {
    return this.#options.matches(name);
  }

  /** The partition goes on at `nextOffset`: what came before it is nobody's any more. */
  async passOver(place: Place): Promise<void> {
    await this.#change([], place, place.nextOffset);
  }

  /** The copy that the table waits for is here. */
  async begin(table: RememberedTable, place: Place): Promise<void> {
    await this.#change([{ kind: "await", from: table, awaiting: null }], place);
  }

  /** What must be done about the tables of a name when nothing of its topic waits any more; null when all is as it should be. */
  async due(name: TableName): Promise<((place: Place) => Promise<void>) | null> {
    const { history, policy } = this.#options;
    const all = await this.#all();
    const gone = [...all.values()].filter(({ oid, schema, named }) => {
      if (history.newest(oid) !== null) return false;
      const names = [schema, named, history.last(oid)?.schema];
      return names.some((had) => had !== undefined && isSameName(had, name));
    });
    if (policy === "apply" && gone.length > 0) return (place) => this.#change(dropChanges(gone), place);
    const isHere = ({ schema }: SchemaVersion): boolean => {
      const remembered = all.get(schema.oid);
      const isNamed = policy !== "apply" || (remembered !== undefined && isSameName(remembered.named, schema));
      return remembered?.schema.id === schema.id && isNamed;
    };
    const current = history.current(name);
    const isCurrent = current !== null && !isHere(current);
    const wanted = isCurrent ? current : this.#calledOtherwise(name, all);
    if (wanted === null) return null;
    const decided = { seen: revisionIn(all, wanted.schema), elsewhere: !isCurrent };
    return (place) => this.bring(wanted.schema, wanted.at ?? place.from ?? NOWHERE, place, decided);
  }

  /**
   * Names of tables that are not here as main-db's are by now, and may never be: what a former life of this router, or another, had asked of
   * the replica can be carried out after this one has looked. Empty but once in `everyMs`.
   */
  async overdue(everyMs = REVIEW_MS): Promise<readonly TableName[]> {
    const { history, policy } = this.#options;
    if (policy !== "apply" || performance.now() - this.#reviewedAtMs < everyMs) return [];
    this.#reviewedAtMs = performance.now();
    this.reread();
    const all = await this.#all();
    return [...all.values()].flatMap(({ oid, schema }) => {
      const last = history.last(oid)?.schema ?? schema;
      return history.newest(oid) === null || last.id !== schema.id ? [last] : [];
    });
  }

  /**
   * What a table that is here under a name it has no more was like first under the one it has. Whoever has the topic of that may have looked at
   * its end before this router brought the table here; what the table has become since is between that topic's rows.
   */
  #calledOtherwise(name: TableName, all: Tables): SchemaVersion | null {
    const { history, policy, matches } = this.#options;
    if (policy !== "apply") return null;
    const here = [...all.values()].filter(({ schema }) => isSameName(schema, name));
    const first = here.flatMap(({ oid }) => history.firstOfName(oid) ?? []);
    return first.find(({ schema }) => !isSameName(schema, name) && matches(schema)) ?? null;
  }

  isSuspect({ oid }: RememberedTable): boolean {
    return this.#suspects.has(oid);
  }

  /** Of the columns those that the replica's table is not known to take NULL in. */
  tight({ oid }: RememberedTable, columns: ReadonlySet<string>): ReadonlySet<string> {
    if (columns.size === 0 || this.#options.policy !== "apply") return NONE;
    return columns.difference(this.#relaxed.get(oid) ?? NONE);
  }

  /** Lets the columns take NULL, which rows from before the table's schema have. */
  async relax(remembered: RememberedTable, columns: ReadonlySet<string>, place: Place): Promise<void> {
    const { schema, at, named } = remembered;
    const steps = schema.columns
      .filter(({ name }) => columns.has(name) && !schema.key.includes(name))
      .map((column) => ({ kind: "set-nullable", column }) as const);
    const kept = { schema, at, named, rewritten: false, empties: false };
    await this.#change([{ kind: "alter", from: remembered, steps, ...kept }], place);
    this.#relaxed.set(remembered.oid, columns.union(this.#relaxed.get(remembered.oid) ?? NONE));
  }

  /** What the replica remembers, as it was last read, by the names of schemas: for /status. */
  byName(): ReadonlyMap<string, RememberedTable> {
    return new Map([...this.#lastRead.values()].map((table) => [formatTableName(table.schema), table]));
  }

  /**
   * This went wrong with the table: somebody may have changed it, so it is looked at again. Where a constraint refused a row, whether that
   * was a NULL, which main-db took, is looked at from now on.
   */
  doubt(name: TableName, error: unknown): void {
    this.reread();
    for (const [oid, { table }] of this.#prepared) if (isSameName(table.source, name)) this.#prepared.delete(oid);
    if (!(error instanceof CascadeError) || error.code !== "CONSTRAINT_VIOLATED") return;
    for (const { oid, schema } of this.#lastRead.values()) if (isSameName(schema, name)) this.#suspects.add(oid);
  }

  /** Another router may have brought tables somewhere. */
  reread(): void {
    this.#version++;
    this.#remembered = null;
  }

  /** Read once by all who ask while it is being read: there may be thousands of tables, and a partition for each asks at the start. */
  async #all(): Promise<Tables> {
    const wanted = this.#version;
    while (this.#remembered === null) {
      this.#reading ??= { version: this.#version, tables: this.#read(this.#version) };
      const { version, tables } = this.#reading;
      const read = await tables;
      if (version >= wanted) return this.#remembered ?? read;
    }
    return this.#remembered;
  }

  async #read(version: number): Promise<Tables> {
    try {
      const found = await this.#options.replica.remembered();
      const tables = new Map(found.map((table) => [table.oid, this.#sharing(table)]));
      this.#note(tables);
      // What is to be read again meanwhile may be older than that.
      if (version === this.#version) this.#remembered = tables;
      return tables;
    } finally {
      this.#reading = null;
    }
  }

  /** With the schema that the history has: there may be thousands of tables, and each has read its own from the replica. */
  #sharing(table: RememberedTable): RememberedTable {
    const known = this.#options.history.last(table.oid)?.schema;
    return known?.id === table.schema.id ? { ...table, schema: known } : table;
  }

  #note(tables: Tables): void {
    this.#lastRead = tables;
    this.#awaited = [...tables.values()].filter(({ awaiting }) => awaiting !== null);
  }

  /** What this router has changed itself; of what another one has, it learns by being fenced. */
  async #readAgain(oids: readonly number[]): Promise<void> {
    const known = this.#remembered;
    if (known === null || oids.length === 0) return;
    const tables = await this.#options.replica.remembered(oids).catch((error: unknown) => {
      this.reread();
      throw error;
    });
    if (this.#remembered !== known) return; // read anew, or to be, meanwhile
    const all = new Map(known);
    for (const oid of oids) all.delete(oid);
    for (const table of tables) all.set(table.oid, this.#sharing(table));
    this.#note(all);
    this.#remembered = all;
  }

  async #prepare(remembered: RememberedTable, place: Place): Promise<ReplicaTable> {
    const { oid, schema, named, revision } = remembered;
    const known = this.#prepared.get(oid);
    const nowMs = performance.now();
    if (known?.revision === revision && nowMs - known.checkedAtMs < RECHECK_MS) return known.table;
    const table = await this.#options.replica.prepare(schema, isUntouched(place), named, revision);
    this.#prepared.set(oid, { table, revision, checkedAtMs: nowMs });
    return table;
  }

  /** A table that the replica does not remember was never applied to, unless an older Cascade did, whose cdc did not say `at` either. */
  #mayCreate({ oid }: TableSchema, place: Place): boolean {
    return isUntouched(place) || this.#options.history.beginningOf(oid) !== null;
  }

  async #passFence(schema: TableSchema, position: Position, place: Place, elsewhere: boolean): Promise<void> {
    const all = await this.#all();
    const { history } = this.#options;
    const remembered = all.get(schema.oid);
    const since = this.#fence.movedAt(schema, position, remembered);
    const at = history.startOf(schema, position);
    const beginning = history.beginningOf(schema.oid);
    const isFirst = remembered === undefined && beginning !== null && comparePositions(at, beginning) <= 0;
    if (since !== null) await this.#orReach(this.#fence.pass(schema, position, elsewhere), justBefore(since), place);
    // Of a place of another topic all partitions of all its topics were looked at.
    if (elsewhere || isFirst) return;
    await this.#orReach(this.#partitions.pass(place.partition, schema, at), justBefore(at), place);
  }

  /** What is waited for may wait for this partition in its turn, which has nothing more from up to `position`: its progress must say so. */
  async #orReach<T>(passing: Promise<T>, position: Position, place: Place): Promise<T> {
    try {
      return await passing;
    } catch (error) {
      if (error instanceof WaitingError) await this.#reach(position, place);
      throw error;
    }
  }

  async #reach(position: Position, { partition, from, nextOffset }: Place): Promise<void> {
    if (from !== null && comparePositions(from, position) >= 0) return;
    const advance = { partition, from, to: { nextOffset, sourceCommittedAtMs: 0, ...from, ...position } };
    await this.#options.replica.apply({ statements: [], inOrder: () => [] }, advance);
    this.#options.moved(advance);
  }

  /** @param toOffset where the partition is to go on, else where it was */
  async #change(changes: readonly TableChange[], { partition, from, nextOffset }: Place, toOffset?: bigint): Promise<void> {
    const before = from ?? { nextOffset, ...NOWHERE, sourceCommittedAtMs: 0 };
    const advance = { partition, from, to: { ...before, nextOffset: toOffset ?? before.nextOffset } };
    await this.#options.replica.change(changes, advance);
    this.#options.moved(advance);
    for (const change of changes) this.#tell(change);
    await this.#readAgain(changes.map((change) => (change.kind === "create" ? change.schema.oid : change.from.oid)));
  }

  #tell(change: TableChange): void {
    const what = describeChange(change);
    if (what === "") return;
    const now = "schema" in change ? change.schema : change.from.schema;
    this.#options.changed(change.kind === "create" ? now : change.from.schema, what, now);
  }
}

/** For the log: names only; "" when there is nothing to say. */
function describeChange(change: TableChange): string {
  switch (change.kind) {
    case "create":
      return "its table is there";
    case "alter": {
      const { from, schema, steps, empties } = change;
      const moved = isSameName(from.schema, schema) ? [] : [`is ${formatTableName(schema)} now`];
      const emptied = empties ? ["emptied, its rows come again"] : [];
      return [...moved, ...emptied, describeSteps(steps)].filter((text) => text !== "").join(", ");
    }
    case "move":
      return `its table is called ${formatTableName(change.named)} for now`;
    case "await":
      return change.awaiting === null ? "its copy begins" : "";
    case "drop":
      return "dropped its table";
    case "release":
      return "its table was dropped or renamed by somebody, and is forgotten";
  }
}

const NONE: ReadonlySet<string> = new Set();
const NOWHERE: Position = { commitLsn: 0n, ordinal: 0 };

const revisionIn = (all: Tables, { oid }: TableSchema): number | null => all.get(oid)?.revision ?? null;

const isUntouched = ({ from }: Place): boolean => from === null || from.commitLsn === 0n;
