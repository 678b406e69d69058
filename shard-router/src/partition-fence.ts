import type { ReceivedEvent } from "@cascade/shared/change-event";
import { comparePositions, formatLsn, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Partition } from "./event-consumer.ts";
import { type FenceOptions, justBefore } from "./fence.ts";
import { isWhole, keysOfEvent, wholeRow } from "./held-keys.ts";
import type { Progress, Replica } from "./replica.ts";
import { WaitingError } from "./waiting.ts";

export interface PartitionFenceOptions extends Pick<FenceOptions, "history" | "ends" | "reads"> {
  readonly replica: Pick<Replica, "progress" | "progressOf" | "held">;
}

/** `done`: another partition's event has done what this one would. */
export type Meeting = "go" | "done";

/**
 * A table's rows may be divided over several partitions of its topic, which come in no order. What concerns rows of several is done when all of
 * these have been applied up to there, whichever routers hold them: the replica's progress says so. Each that waits says in its own progress that
 * it has nothing from before (`TableBook`), so the one whose next event is the earliest never waits.
 */
export class PartitionFence {
  readonly #options: PartitionFenceOptions;

  constructor(options: PartitionFenceOptions) {
    this.#options = options;
  }

  /** The first of a table's events, from `start` on, that concerns other partitions too; -1 for none. */
  firstMeeting(events: readonly ReceivedEvent[], schema: TableSchema, start = 0): number {
    if (this.#count(schema) === 1) return -1;
    return events.findIndex((event, at) => at >= start && concernsOthers(event, schema));
  }

  /**
   * Rejects with WaitingError until it is such an event's turn, which is the next of its partition.
   * A truncate that goes must be applied so that no other does (`Work.tables`): that of any partition is for all of them.
   */
  async meet(event: ReceivedEvent, partition: Partition, schema: TableSchema): Promise<Meeting> {
    const { op, marks } = event;
    if (op === "t") return this.#meetAll(event, partition, schema);
    const { topic } = partition;
    const other = { topic, partition: marks?.movedTo ?? (marks?.movedFrom as number) };
    if (this.#options.reads?.(schema, other.partition) === false) return "go"; // the row is another shard's there
    const progress = await this.#options.replica.progress(other);
    if (op === "u") {
      if (isUpTo(progress, justBefore(event))) return "go";
      throw waiting(schema, "a row that gets a key of another partition", event);
    }
    if (!isUpTo(progress, event)) throw waiting(schema, "a row that gets a key of another partition", event);
    // Where the update is held back it needs the old row, which goes when that is replayed.
    const [key] = keysOfEvent(schema, event) ?? [];
    const held = await this.#options.replica.held();
    return held.some(({ id, last }) => id === key?.id && comparePositions(last, event) >= 0) ? "done" : "go";
  }

  async #meetAll(event: Position, partition: Partition, schema: TableSchema): Promise<Meeting> {
    let isReached = true;
    const others = this.#others(partition, schema);
    const all = others.length === 0 ? NOTHING : await this.#options.replica.progressOf(partition.topic);
    for (const other of others) {
      const progress = all.get(other.partition) ?? null;
      // Every partition has the truncate: one that is past it was there when it was done, or waits for a copy.
      if (isUpTo(progress, event)) return "done";
      isReached &&= isUpTo(progress, justBefore(event));
    }
    if (isReached) return "go";
    throw waiting(schema, "a truncate", event);
  }

  /** Rejects with WaitingError while the other partitions of the table's topic have rows from before `until` that are not applied. */
  async pass(partition: Partition, schema: TableSchema, until: Position): Promise<void> {
    const others = this.#others(partition, schema);
    if (others.length === 0) return;
    // cdc publishes a change of a schema when all rows before it are in Kafka: they are before these ends.
    const ends = await this.#options.ends(partition.topic);
    const all = await this.#options.replica.progressOf(partition.topic);
    for (const other of others) {
      const end = ends?.get(other.partition) ?? 0n;
      if (end === 0n) continue;
      const progress = all.get(other.partition) ?? null;
      if (progress !== null && (progress.nextOffset >= end || isUpTo(progress, justBefore(until)))) continue;
      throw waiting(schema, "a schema change", until);
    }
  }

  #others({ topic, partition: own }: Partition, name: TableName): readonly Partition[] {
    const count = this.#count(name);
    // Of a topic that was given more: nothing is divided over them.
    if (own >= count) return [];
    const all = Array.from({ length: count }, (_, partition) => ({ topic, partition }));
    const { reads } = this.#options;
    return all.filter(({ partition }) => partition !== own && reads?.(name, partition) !== false);
  }

  #count(name: TableName): number {
    return this.#options.history.partitionsOf(name);
  }
}

/** An update that has all columns needs nothing of the old row, and says all of the new one: either partition does its part when it comes to it. */
function concernsOthers({ op, marks, before, after }: ReceivedEvent, schema: TableSchema): boolean {
  if (op === "t") return true;
  if (marks === null) return false;
  return marks.movedTo !== null || (marks.movedFrom !== null && !isWhole(schema, wholeRow(before, after)));
}

/**
 * An update from a key of another partition that has all columns, as this partition is to take it: what becomes of the old key is told to its own,
 * where a new row may have that by now.
 */
export function arrived(event: ReceivedEvent, schema: TableSchema): ReceivedEvent {
  const { marks, before, after } = event;
  if (marks === null || marks.movedFrom === null) return event;
  const row = wholeRow(before, after);
  return isWhole(schema, row) ? { ...event, before: null, after: row, marks: { ...marks, movedFrom: null } } : event;
}

const NOTHING: ReadonlyMap<number, Progress> = new Map();

const isUpTo = (progress: Progress | null, position: Position): boolean =>
  progress !== null && comparePositions(progress, position) >= 0;

const waiting = (schema: TableName, what: string, { commitLsn, ordinal }: Position): WaitingError =>
  new WaitingError(
    `${what} of ${formatTableName(schema)} waits until the other partitions of its topic are applied up to there`,
    `${formatLsn(commitLsn)}/${ordinal}`,
  );
