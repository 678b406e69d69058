import type { EventMarks, ReceivedEvent } from "@cascade/shared/change-event";
import { comparePositions } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { coalesce } from "./coalesce.ts";
import type { Dialect, ReplicaTable, Statement } from "./dialect.ts";
import { type Mutation, toMutations } from "./mutation.ts";
import { mapOldRows } from "./old-rows.ts";
import type { RememberedTable } from "./replica.ts";

/** Consecutive events of one schema. */
export interface SchemaRun {
  readonly schemaId: string;
  /** Index of the first among all new events. */
  readonly start: number;
  readonly events: ReceivedEvent[];
}

/** Without the events that are not for this replica; marks that concern others alone are taken from the rest, where they stand. */
export function bySchema(events: ReceivedEvent[], replicaName: string): readonly SchemaRun[] {
  const runs: SchemaRun[] = [];
  let run: SchemaRun | undefined;
  for (let at = 0; at < events.length; at++) {
    let event = events[at] as ReceivedEvent;
    if (event.marks !== null) {
      if (!isFor(event.marks, replicaName)) continue;
      if (isFillingForOthers(event.marks, replicaName)) {
        event = { ...event, marks: { ...event.marks, filling: false, fillingFor: null } };
        events[at] = event;
      }
    }
    if (run?.schemaId !== event.schemaId) {
      run = { schemaId: event.schemaId, start: at, events: [] };
      runs.push(run);
    }
    run.events.push(event);
  }
  return runs;
}

const isFor = ({ replica, notReplica }: NonNullable<ReceivedEvent["marks"]>, replicaName: string): boolean =>
  (replica === null || replica === replicaName) && !notReplica?.split(",").includes(replicaName);

const isFillingForOthers = ({ fillingFor }: EventMarks, replicaName: string): boolean =>
  fillingFor !== null && !fillingFor.split(",").includes(replicaName);

/** The events at the run's beginning that are all from before the table became what it is, or all from after. */
export function sameSide(
  events: readonly ReceivedEvent[],
  schema: TableSchema,
  remembered: RememberedTable,
): readonly ReceivedEvent[] {
  const [first, last] = [events[0], events.at(-1)];
  if (remembered.schema.id === schema.id || first === undefined || last === undefined) return events;
  const isOld = (event: ReceivedEvent) => comparePositions(event, remembered.at) < 0;
  if (isOld(first) === isOld(last)) return events;
  return events.slice(
    0,
    events.findIndex((event) => !isOld(event)),
  );
}

export interface TurnedRun {
  readonly table: ReplicaTable;
  readonly mutations: readonly Mutation[];
  /** They cannot be merged. */
  readonly inOrder: boolean;
  /** Columns that are NOT NULL by the table's schema and null in these rows. */
  readonly nulls: ReadonlySet<string>;
}

const NO_NULLS: ReadonlySet<string> = new Set();

/** What the events, written under `schema`, mean for the table as it is now. */
export function turnRun(
  schema: TableSchema,
  events: readonly ReceivedEvent[],
  table: ReplicaTable,
  isSuspect = false,
): TurnedRun {
  if (schema.id === table.source.id) {
    // Where main-db's changes are seen in its catalog alone, a column may take NULL before its schema says so.
    const nulls = isSuspect ? nullsIn(schema, events) : NO_NULLS;
    return { table, mutations: toMutations(table.source, events), inOrder: false, nulls };
  }
  const old = mapOldRows(schema, table.source, events);
  const mutations = toMutations(old.schema, old.events);
  const nulls = nullsIn(old.schema, old.events);
  if (!old.otherKey) return { table, mutations, inOrder: false, nulls };
  const byHand = mutations.flatMap((mutation): readonly Mutation[] => {
    if (mutation.kind !== "put") return [mutation];
    return [
      { kind: "delete", key: mutation.row },
      { kind: "append", row: mutation.row },
    ];
  });
  return { table: { ...table, source: old.schema }, mutations: byHand, inOrder: true, nulls };
}

function nullsIn({ columns, key }: TableSchema, events: readonly ReceivedEvent[]): ReadonlySet<string> {
  const strict = columns.filter(({ name, nullable }) => !nullable && !key.includes(name));
  return new Set(strict.flatMap(({ name }) => (events.some(({ after }) => after?.[name] === null) ? [name] : [])));
}

/** As few as possible. */
export const statementsOf = (dialect: Dialect, run: TurnedRun): readonly Statement[] =>
  run.inOrder ? inOrder(dialect, [run]) : dialect.render(run.table, coalesce(run.table.source, run.mutations));

/** Every mutation by itself, in order: the slow way, for when a set-based statement meets a constraint. */
export function inOrder(dialect: Dialect, runs: readonly TurnedRun[]): readonly Statement[] {
  return runs.flatMap(({ table, mutations }) => mutations.flatMap((mutation) => dialect.render(table, [mutation])));
}
