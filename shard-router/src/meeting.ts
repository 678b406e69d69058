import type { ReceivedEvent } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { arrived } from "./partition-fence.ts";
import type { SchemaRun } from "./schema-runs.ts";
import type { Place, TableBook } from "./table-book.ts";

/** How a step takes events that concern other partitions of their table's topic (`PartitionFence`). */

export interface MeetingOptions {
  readonly tables: Pick<TableBook, "firstMeeting" | "meet">;
  /** Events that were held back: what they were to wait for has come before. */
  readonly isReplay?: true;
}

/** Where in a step events stand. */
export interface MeetingPlace {
  readonly schema: TableSchema;
  place(): Place;
  /** Nothing stands before them. */
  readonly isFirst: boolean;
}

export interface BeforeMeeting {
  /** The first of those that were given; none where the step has to end before them. */
  readonly events: readonly ReceivedEvent[];
  /** The first of them, where another partition has done what it says. */
  readonly done: ReceivedEvent | null;
  /** It is alone, and no other router may do the same. */
  readonly renews: boolean;
  /** It concerns other partitions. */
  readonly hasMet: boolean;
}

/** The events up to the first that concerns other partitions, which must be the first of a step. Rejects with WaitingError before its turn. */
export async function upToMeeting(
  all: readonly ReceivedEvent[],
  { schema, place, isFirst }: MeetingPlace,
  { tables, isReplay }: MeetingOptions,
): Promise<BeforeMeeting> {
  const ordinary = { done: null, renews: false, hasMet: false };
  const first = isReplay ? -1 : tables.firstMeeting(all, schema);
  if (first !== 0) return { events: first < 0 ? all : all.slice(0, first), ...ordinary };
  if (!isFirst) return { events: [], ...ordinary };
  const event = all[0] as ReceivedEvent;
  const meeting = await tables.meet(event, schema, place());
  if (event.op === "t" && meeting === "go") return { events: [event], done: null, renews: true, hasMet: true };
  const next = tables.firstMeeting(all, schema, 1);
  const done = meeting === "done" ? event : null;
  return { events: next < 0 ? all : all.slice(0, next), done, renews: false, hasMet: true };
}

/** Where a table's rows are divided, a copy begins in all partitions at once; in one of which Kafka has lost that place it never does. */
export const mayBegin = async (
  event: ReceivedEvent,
  { schema, place }: Omit<MeetingPlace, "isFirst">,
  { tables, isReplay }: MeetingOptions,
): Promise<boolean> =>
  isReplay || tables.firstMeeting([event], schema) < 0 || (await tables.meet(event, schema, place())) === "go";

/** Takes the updates that came from other partitions as they are meant here, in the run and among all events of the batch, which it is found in again. */
export function takeArrived({ events }: SchemaRun, schema: TableSchema, all: ReceivedEvent[]): void {
  for (const [at, event] of events.entries()) {
    const taken = arrived(event, schema);
    if (taken === event) continue;
    events[at] = taken;
    all[all.indexOf(event)] = taken;
  }
}
