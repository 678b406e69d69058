import type { ReceivedEvent } from "@cascade/shared/change-event";
import { type CascadeError, FencedError } from "@cascade/shared/errors";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { ShardClaim } from "./claim-shard.ts";
import type { AwaitedCopies } from "./copy-requests.ts";
import type { DeadLetter } from "./dead-letter.ts";
import type { DeadLetters } from "./dead-letters.ts";
import type { Dialect } from "./dialect.ts";
import type { EventBatch, Partition, RawEvent } from "./event-consumer.ts";
import { eventOf } from "./event-of.ts";
import type { HoldPlan } from "./hold-plan.ts";
import { mayBegin, takeArrived, upToMeeting } from "./meeting.ts";
import type { Ownership, TableShare } from "./ownership.ts";
import { asOfTable } from "./poison.ts";
import type { ProgressBook } from "./progress-book.ts";
import type { Advance, FencedTable, Progress, RememberedTable, Work } from "./replica.ts";
import { malformedEvent } from "./row-shape.ts";
import type { SchemaBook } from "./schema-book.ts";
import { bySchema, inOrder, type SchemaRun, sameSide, statementsOf, type TurnedRun, turnRun } from "./schema-runs.ts";
import type { Place, Standing, TableBook } from "./table-book.ts";

/** One batch, or its beginning, turned into one transaction of the replica. */
export interface Step {
  readonly work: Work;
  readonly advance: Advance;
  /** Those that are new to the replica, and say something of its rows. */
  readonly events: readonly ReceivedEvent[];
  /** When the first of all that are new to it was committed, though it may be of rows that are another's; null for none. */
  readonly oldestAtMs: number | null;
  /** Those that are held back, and must be durable elsewhere before the step is taken. */
  readonly letters: readonly DeadLetter[];
  /** What is left of the batch: it needs a table that is otherwise, once this step is done. */
  readonly rest: EventBatch | null;
}

export interface TurnOptions {
  /** Some events are for one replica alone, or for all but one. */
  readonly replicaName: string;
  readonly dialect: Dialect;
  readonly schemas: SchemaBook;
  readonly tables: TableBook;
  readonly progress: Pick<ProgressBook, "current">;
  /** Where a table that must wait for a copy can ask for it. */
  readonly copies?: Pick<AwaitedCopies, "askAgain">;
  readonly deadLetters?: Pick<DeadLetters, "plan" | "sync" | "look">;
  /** Of a replica that holds a part of the rows. */
  readonly ownership?: Ownership;
  /** Events that were held back: what they were to wait for has come before. */
  readonly isReplay?: true;
  readonly claim?: Pick<ShardClaim, "agree">;
}

/**
 * Events -> mutations -> statements. What the replica has already is dropped, by position: replays of the slot and of the topic come
 * to nothing here. The table is brought to the schema of the first event; the step ends where another is needed.
 * `poison`: the batch is one event, which is held back for this error.
 * Rejects with a CascadeError that stops the table when an event cannot be turned, with WaitingError when others must come first.
 */
export async function turn(batch: EventBatch, options: TurnOptions, poison: CascadeError | null = null): Promise<Step> {
  const { dialect, progress, tables } = options;
  const fresh = newEvents(batch, progress.current(batch.partition));
  const found = withoutLate(fresh, await tables.leavings(), options.schemas);
  const { plan, end, foreign, ...ready } = await turnRuns({ batch, found, poison }, options);
  const events = end < found.events.length ? found.events.slice(0, end) : found.events;
  const { done, rest } = cutAt(batch, found.indexes[end]);
  // Of those that came late too: a position from before them would look as if another log had taken their place.
  const last = lastBefore(fresh, found.indexes[end] ?? Number.POSITIVE_INFINITY);
  const from = progress.current(batch.partition);
  return {
    work: { ...workOf(dialect, ready), ...(plan === null ? {} : { holds: plan.changes() }) },
    advance: { partition: batch.partition, from, to: progressAfter(done, last, from) },
    events:
      plan === null && foreign.size === 0 ? events : events.filter((event) => !foreign.has(event) && !plan?.isWithheld(event)),
    oldestAtMs: events[0]?.committedAtMs ?? null,
    letters: plan?.letters ?? [],
    rest,
  };
}

export const workOf = (dialect: Dialect, { runs, passed }: Pick<ReadyRuns, "runs" | "passed">): Work => ({
  statements: runs.flatMap((run) => statementsOf(dialect, run)),
  inOrder: () => inOrder(dialect, runs),
  tables: [...new Map([...passed, ...runs.map(fencedOf)].map((table) => [table.oid, table])).values()],
});

function cutAt(batch: EventBatch, index: number | undefined): { readonly done: EventBatch; readonly rest: EventBatch | null } {
  if (index === undefined) return { done: batch, rest: null };
  const events = batch.events.slice(index);
  return { done: { ...batch, nextOffset: (events[0] as RawEvent).offset }, rest: { ...batch, events } };
}

interface ReadyRun extends TurnedRun {
  readonly remembered: RememberedTable;
  /** No other work on the table is done that does not know of this. */
  readonly renews: boolean;
}

const fencedOf = ({ remembered, renews }: ReadyRun): RememberedTable & FencedTable =>
  renews ? { ...remembered, renews } : remembered;

interface ReadyRuns {
  readonly runs: readonly ReadyRun[];
  /** Tables whose events were passed over: they wait for a copy, and what comes before it says nothing of the rows they will have. */
  readonly passed: readonly RememberedTable[];
  /** How many of the new events they cover. */
  readonly end: number;
  /** null: none of them is held back. */
  readonly plan: HoldPlan | null;
  /** Those that say nothing of this replica's rows. */
  readonly foreign: ReadonlySet<ReceivedEvent>;
}

export interface FoundBatch {
  readonly batch: EventBatch;
  readonly found: NewEvents;
  readonly poison: CascadeError | null;
}

/** Run after run, up to the first that needs its table otherwise than those before it. */
export async function turnRuns(from: FoundBatch, options: TurnOptions): Promise<ReadyRuns> {
  const { batch, found, poison } = from;
  const { tables, progress, replicaName } = options;
  const rawOf = (event: ReceivedEvent) => batch.events[found.indexes[found.events.indexOf(event)] as number] as RawEvent;
  let plan = options.deadLetters?.plan({ batch, poison, rawOf }) ?? null;
  const runs: ReadyRun[] = [];
  const passed: RememberedTable[] = [];
  const foreign = new Set<ReceivedEvent>();
  for (const run of bySchema(found.events, replicaName)) {
    const isFirst = runs.length === 0;
    // The batch's first, though events that are not for this replica may stand before the run: it may be tried again in smaller parts.
    const { offset: nextOffset } = batch.events[0] as RawEvent;
    const place = (): Place => ({ partition: batch.partition, from: progress.current(batch.partition), nextOffset });
    const schema = await schemaOf(batch, run, options.schemas);
    if (options.schemas.history.partitionsOf(schema) > 1) takeArrived(run, schema, found.events);
    const standing = await standingOf(run, schema, { tables, place, mayChange: isFirst });
    if (standing.kind === "change") return { runs, passed, plan, foreign, end: run.start };
    if (standing.kind === "gone") {
      plan?.release(schema.oid);
      continue;
    }
    const { table, remembered } = standing;
    await options.claim?.agree(schema, remembered.revision);
    if (remembered.awaiting !== null) {
      await options.copies?.askAgain();
      // Whether a truncate ends the waiting depends on all names that the table has had.
      if (run.events.some(({ op }) => op === "t")) await options.schemas.settle();
      const isBegin = (event: ReceivedEvent): boolean => beginsCopy(event, remembered, batch.partition, options);
      let begin = run.events.find(isBegin);
      if (begin !== undefined && begin === found.events[0]) {
        if (await mayBegin(begin, { schema, place }, options)) {
          await tables.begin(remembered, place());
          return turnRuns(from, options);
        }
        begin = run.events.find((event) => event !== found.events[0] && isBegin(event));
      }
      passed.push(remembered);
      if (begin !== undefined) return { runs, passed, plan, foreign, end: found.events.indexOf(begin) };
      continue;
    }
    if (await options.deadLetters?.sync(remembered)) return turnRuns(from, options);
    const sameTable = tables.beforeReturn(schema, sameSide(run.events, schema, remembered), remembered);
    const share = await shareOf(schema, place, options);
    if (share === "passed") return turnRuns(from, options);
    const { events, done, renews, hasMet } = await upToMeeting(sameTable, { schema, place, isFirst }, options);
    // Other routers may have held back more, which is void with a truncate, or is where a row moves from.
    if (hasMet && (await options.deadLetters?.look())) return turnRuns(from, options);
    if (events.length === 0) return { runs, passed, plan, foreign, end: run.start };
    if (done !== null) foreign.add(done);
    const ours = done === null ? events : events.slice(1);
    const { mine, otherwise } = share === null ? { mine: ours, otherwise: NOTHING } : ownOf(share, ours, foreign);
    const held = plan?.fork() ?? null;
    const kept = held?.withhold(schema, mine) ?? mine;
    const here = otherwise.size === 0 ? kept : kept.map((event) => otherwise.get(event) ?? event);
    const turned = turnRun(schema, here, table, tables.isSuspect(remembered));
    const tight = tables.tight(remembered, turned.nulls);
    if (tight.size > 0) {
      if (!isFirst) return { runs, passed, plan, foreign, end: run.start };
      await tables.relax(remembered, tight, place()).catch((error: unknown) => {
        throw asOfTable(error);
      });
      return turnRuns(from, options);
    }
    plan = held;
    runs.push({ ...turned, remembered, renews });
    if (events.length < run.events.length)
      return { runs, passed, plan, foreign, end: found.events.indexOf(run.events[events.length] as ReceivedEvent) };
  }
  return { runs, passed, plan, foreign, end: found.events.length };
}

/** Those that say something of this replica's rows, and what some of them mean here; the rest are `foreign`. */
function ownOf(share: TableShare, events: readonly ReceivedEvent[], foreign: Set<ReceivedEvent>) {
  const mine: ReceivedEvent[] = [];
  const otherwise = new Map<ReceivedEvent, ReceivedEvent>();
  for (const event of events) {
    const here = share.here(event);
    if (here === null) foreign.add(event);
    else mine.push(event);
    if (here !== null && here !== event) otherwise.set(event, here);
  }
  return { mine, otherwise };
}

const NOTHING: ReadonlyMap<ReceivedEvent, ReceivedEvent> = new Map();

/**
 * Where the copy begins that the table waits for, which is where it empties the table: its later rows may be there without its first ones.
 * Or where every replica's table is empty, for all rows that it will have come after.
 */
function beginsCopy(
  event: ReceivedEvent,
  table: RememberedTable,
  partition: Partition,
  { replicaName, tables }: TurnOptions,
): boolean {
  const { op, marks } = event;
  if (op !== "t") return false;
  const replica = marks?.replica ?? null;
  if (replica === null) return tables.isAfterLoss(table, event, partition);
  return replica === replicaName && marks?.snapshotId === table.awaiting;
}

/**
 * Which rows are ours; null for all. `passed`: what main-db's table was then cannot be divided, and what it is now can: the table waits for a
 * copy from here on, and what comes before that is passed over.
 */
async function shareOf(
  schema: TableSchema,
  place: () => Place,
  { ownership, schemas, tables, copies }: TurnOptions,
): Promise<TableShare | null | "passed"> {
  try {
    return ownership?.of(schema) ?? null;
  } catch (error) {
    const newest = schemas.history.newest(schema.oid)?.schema;
    if (copies === undefined || newest === undefined || newest.id === schema.id || !tables.takes(newest)) throw error;
    ownership?.of(newest); // or it says what to mend
    await tables.await(newest, place());
    await copies.askAgain();
    return "passed";
  }
}

async function schemaOf(batch: EventBatch, { schemaId }: SchemaRun, schemas: SchemaBook): Promise<TableSchema> {
  const schema = schemas.known(schemaId) ?? (await schemas.get(schemaId));
  if (!isOf(batch.table, schema)) throw strayEvent(batch, schema);
  return schema;
}

interface Standpoint {
  readonly tables: TableBook;
  /** Asked anew after a change, which moves the progress. */
  place(): Place;
  readonly mayChange: boolean;
}

async function standingOf(
  { events: [first] }: SchemaRun,
  schema: TableSchema,
  { tables, place, mayChange }: Standpoint,
): Promise<Standing> {
  const position = first as ReceivedEvent;
  const standing = await tables.standing(schema, position, place());
  if (standing.kind !== "change" || !mayChange) return standing;
  const { topic, partition } = place().partition;
  await tables.bring(schema, position, place(), standing).catch((error: unknown) => {
    throw asOfTable(error);
  });
  const brought = await tables.standing(schema, position, place());
  if (brought.kind === "change") throw new FencedError(topic, partition, `the replica's table of ${formatTableName(schema)}`);
  return brought;
}

const isOf = (name: TableName, { schema, table }: TableSchema): boolean => name.schema === schema && name.table === table;

/** Applied, it would change a table that this replica may not take, in no order with that table's own events. */
function strayEvent({ partition, table }: EventBatch, schema: TableSchema): CascadeError {
  const reason = `it names a schema of ${formatTableName(schema)}, in topic ${partition.topic}`;
  return malformedEvent(table, reason);
}

interface NewEvents {
  readonly events: ReceivedEvent[];
  /** Where in the batch each of them stands. */
  readonly indexes: readonly number[];
}

function newEvents({ events }: EventBatch, from: Progress | null): NewEvents {
  const found: ReceivedEvent[] = [];
  const indexes: number[] = [];
  let last: Position | null = from;
  for (let index = 0; index < events.length; index++) {
    const event = eventOf(events[index] as RawEvent);
    if (event === null) continue; // a tombstone
    // Against the last one taken, not only against the stored: cdc may have published an event twice in a row.
    if (last !== null && comparePositions(event, last) <= 0) continue;
    found.push(event);
    indexes.push(index);
    last = event;
  }
  return { events: found, indexes };
}

const lastBefore = ({ events, indexes }: NewEvents, index: number): ReceivedEvent | undefined =>
  events[indexes.findLastIndex((at) => at < index)];

/** Without those from before their table left the topic, once the replica has it from there: all that was new of them is applied. */
function withoutLate(
  found: NewEvents,
  leftAt: ((schema: TableSchema) => Position | null) | null,
  schemas: SchemaBook,
): NewEvents {
  if (leftAt === null) return found;
  const left = new Map<string, Position>();
  for (const id of new Set(found.events.map(({ schemaId }) => schemaId))) {
    const schema = schemas.known(id);
    const at = schema === undefined ? null : leftAt(schema);
    if (at !== null) left.set(id, at);
  }
  if (left.size === 0) return found;
  const isLate = (event: ReceivedEvent): boolean => {
    const at = left.get(event.schemaId);
    return at !== undefined && comparePositions(event, at) < 0;
  };
  const kept = found.events.flatMap((event, n) => (isLate(event) ? [] : [n]));
  return {
    events: kept.map((n) => found.events[n] as ReceivedEvent),
    indexes: kept.map((n) => found.indexes[n] as number),
  };
}

/** With nothing new in the batch only the offset moves: the position stays that of the last change applied. */
function progressAfter({ nextOffset }: EventBatch, last: ReceivedEvent | undefined, from: Progress | null): Progress {
  if (last !== undefined) {
    return { nextOffset, commitLsn: last.commitLsn, ordinal: last.ordinal, sourceCommittedAtMs: last.committedAtMs };
  }
  return { commitLsn: 0n, ordinal: 0, sourceCommittedAtMs: 0, ...from, nextOffset };
}
