import { decodeChangeEvent, type ReceivedEvent } from "@cascade/shared/change-event";
import type { CascadeError } from "@cascade/shared/errors";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { coalesce } from "./coalesce.ts";
import type { Dialect, ReplicaTable, Statement } from "./dialect.ts";
import type { EventBatch } from "./event-consumer.ts";
import { type Mutation, toMutations } from "./mutation.ts";
import type { ProgressBook } from "./progress-book.ts";
import type { Advance, Progress, Work } from "./replica.ts";
import type { ReplicaTables } from "./replica-tables.ts";
import { malformedEvent } from "./row-shape.ts";
import type { SchemaBook } from "./schema-book.ts";

/** One batch turned into one transaction of the replica. */
export interface Step {
  readonly work: Work;
  readonly advance: Advance;
  /** Those that are new to the replica. */
  readonly events: readonly ReceivedEvent[];
}

export interface TurnOptions {
  readonly dialect: Dialect;
  readonly schemas: SchemaBook;
  readonly tables: ReplicaTables;
  readonly progress: ProgressBook;
}

/**
 * Events -> mutations -> statements. What the replica has already is dropped, by position: replays of the slot and of the topic come
 * to nothing here. Rejects with a CascadeError that stops the table when an event cannot be turned.
 */
export async function turn(batch: EventBatch, { dialect, schemas, tables, progress }: TurnOptions): Promise<Step> {
  const from = progress.current(batch.partition);
  const events = newEvents(batch, from);
  const mayCreate = from === null || from.commitLsn === 0n;
  const runs: TurnedRun[] = [];
  for (const run of bySchema(events)) {
    const schema = schemas.known(run.schemaId) ?? (await schemas.get(run.schemaId));
    if (!isOf(batch.table, schema)) throw strayEvent(batch, schema);
    runs.push({ table: await tables.get(schema, mayCreate), mutations: toMutations(schema, run.events) });
  }
  return {
    work: {
      statements: runs.flatMap(({ table, mutations }) => dialect.render(table, coalesce(table.source, mutations))),
      inOrder: () => inOrder(dialect, runs),
    },
    advance: { partition: batch.partition, from, to: progressAfter(batch, events.at(-1), from) },
    events,
  };
}

const isOf = (name: TableName, { schema, table }: TableSchema): boolean => name.schema === schema && name.table === table;

/** Applied, it would change a table that this replica may not take, in no order with that table's own events. */
function strayEvent({ partition, table }: EventBatch, schema: TableSchema): CascadeError {
  const reason = `it names a schema of ${formatTableName(schema)}, in topic ${partition.topic}`;
  return malformedEvent(table, reason);
}

interface TurnedRun {
  readonly table: ReplicaTable;
  readonly mutations: readonly Mutation[];
}

/** Every mutation by itself, in order: the slow way, for when a set-based statement meets a constraint. */
function inOrder(dialect: Dialect, runs: readonly TurnedRun[]): readonly Statement[] {
  return runs.flatMap(({ table, mutations }) => mutations.flatMap((mutation) => dialect.render(table, [mutation])));
}

function newEvents({ events }: EventBatch, from: Progress | null): readonly ReceivedEvent[] {
  const found: ReceivedEvent[] = [];
  let last: Position | null = from;
  for (const { value } of events) {
    if (value === null) continue; // a tombstone
    const event = decodeChangeEvent(value);
    // Against the last one taken, not only against the stored: cdc may have published an event twice in a row.
    if (last !== null && comparePositions(event, last) <= 0) continue;
    found.push(event);
    last = event;
  }
  return found;
}

interface SchemaRun {
  readonly schemaId: string;
  readonly events: ReceivedEvent[];
}

/** Consecutive events of one schema. */
function bySchema(events: readonly ReceivedEvent[]): readonly SchemaRun[] {
  const runs: SchemaRun[] = [];
  let run: SchemaRun | undefined;
  for (const event of events) {
    if (run?.schemaId !== event.schemaId) {
      run = { schemaId: event.schemaId, events: [] };
      runs.push(run);
    }
    run.events.push(event);
  }
  return runs;
}

/** With nothing new in the batch only the offset moves: the position stays that of the last change applied. */
function progressAfter({ nextOffset }: EventBatch, last: ReceivedEvent | undefined, from: Progress | null): Progress {
  if (last !== undefined) {
    return { nextOffset, commitLsn: last.commitLsn, ordinal: last.ordinal, sourceCommittedAtMs: last.committedAtMs };
  }
  return { commitLsn: 0n, ordinal: 0, sourceCommittedAtMs: 0, ...from, nextOffset };
}
