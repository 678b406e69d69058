import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName, topicOf } from "@cascade/shared/topic";
import type { Partition } from "./event-consumer.ts";
import type { Progress, RememberedTable } from "./replica.ts";
import type { SchemaHistory } from "./schema-history.ts";
import { WaitingError } from "./waiting.ts";

export interface FenceOptions {
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  readonly history: SchemaHistory;
  /** Which tables this replica takes: the rows that one had under another name never come. */
  matches(name: TableName): boolean;
  /** As EventConsumer's. */
  ends(topic: string): Promise<ReadonlyMap<number, bigint> | null>;
  /** Whether this replica reads a partition of the table's topic; it reads all, unless said otherwise. */
  reads?(name: TableName, partition: number): boolean;
  /** Committed, by whichever router. */
  progress(partition: Partition): Promise<Progress | null>;
}

/**
 * A table that is renamed goes on in another topic, and rows of different topics come in no order: before the first row under the new
 * name is applied, everything that the table's other topics hold from before must be.
 */
export class Fence {
  readonly #options: FenceOptions;

  constructor(options: FenceOptions) {
    this.#options = options;
  }

  /**
   * Since when the table has had the name that the schema gives it, where rows from before that may still be on their way: null when it
   * never had another, or when the replica's table has been brought here since.
   */
  movedAt(schema: TableSchema, position: Position, remembered: RememberedTable | undefined): Position | null {
    const residence = this.#options.history.residence(schema.oid, schema, position);
    if (residence === null) return null;
    return remembered !== undefined && comparePositions(remembered.at, residence.since) >= 0 ? null : residence.since;
  }

  /**
   * The first of these events of one schema, up to where the table came back to its name and looks as before: what it was given under
   * other names comes between, by other topics.
   */
  beforeReturn<Event extends Position>(
    schema: TableSchema,
    events: readonly Event[],
    remembered: RememberedTable,
  ): readonly Event[] {
    const [first, last] = [events[0], events.at(-1)];
    const since = first === undefined || last === undefined ? null : this.movedAt(schema, last, remembered);
    if (first === undefined || since === null || comparePositions(first, since) >= 0) return events;
    const end = events.findIndex((event) => comparePositions(event, since) >= 0);
    return this.beforeReturn(schema, events.slice(0, end), remembered);
  }

  /**
   * Before which place the table's topic of that name has nothing new of it, for the replica has it under another since: null when there is
   * none. What comes all the same was kept back for a copy, which has it, and the slot has told it again.
   */
  leftAt(schema: TableSchema, remembered: RememberedTable | undefined): Position | null {
    return remembered === undefined ? null : this.#options.history.lastLeft(schema.oid, schema, remembered.at);
  }

  /**
   * Rejects with WaitingError while rows from before the table had the schema's name, this time, are not applied. `own`: whoever asks has not
   * applied what the topic of that name has of an earlier time.
   */
  async pass(schema: TableSchema, position: Position, own = false): Promise<void> {
    const residence = this.#options.history.residence(schema.oid, schema, position);
    if (residence === null) return;
    const { matches, prefix } = this.#options;
    for (const name of own ? [...residence.others, schema] : residence.others) {
      if (!matches(name) || (await this.#isApplied(name, topicOf(prefix, name), residence.since))) continue;
      throw new WaitingError(
        `${formatTableName(schema)} was or is ${formatTableName(name)} too, and waits until the rows it had under that name before are applied`,
      );
    }
  }

  async #isApplied(name: TableName, topic: string, until: Position): Promise<boolean> {
    // cdc publishes a change of a schema when all rows before it are in Kafka: they are before these ends.
    const ends = await this.#options.ends(topic);
    for (const [partition, end] of ends ?? []) {
      if (end === 0n || this.#options.reads?.(name, partition) === false) continue;
      const progress = await this.#options.progress({ topic, partition });
      if (progress === null) return false;
      if (progress.nextOffset < end && comparePositions(progress, justBefore(until)) < 0) return false;
    }
    return true;
  }
}

/** A schema may begin at the very row that showed it. */
export const justBefore = ({ commitLsn, ordinal }: Position): Position => ({ commitLsn, ordinal: ordinal - 1 });
