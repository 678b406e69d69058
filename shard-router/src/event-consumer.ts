import type { ReceivedEvent } from "@cascade/shared/change-event";
import type { TableName } from "@cascade/shared/topic";

export interface Partition {
  readonly topic: string;
  readonly partition: number;
}

/** For maps: two objects may name one partition. */
export const partitionKey = ({ topic, partition }: Partition): string => `${topic}/${partition}`;

/** One that this router holds. */
export interface OwnPartition extends Partition {
  /** The offset after the last message that there was when it was fetched from last; null where it was not yet. */
  readonly highWatermark?: bigint | null;
}

/** One Kafka message. */
export interface RawEvent {
  readonly offset: bigint;
  readonly key: string | null;
  /** null is a tombstone (compacted topics): nothing to apply. */
  readonly value: string | null;
  /** Its own W3C `traceparent` header. */
  readonly traceParent?: string | null;
  /** What `value` says, where it was read already. Absent where it is no event: why not, concerns its table only, and is said in its turn. */
  readonly decoded?: ReceivedEvent | null;
}

/** Consecutive messages of one partition, in offset order; none when the partition may have been read to its end (see `lookAtEnd`). */
export interface EventBatch {
  readonly partition: Partition;
  readonly table: TableName;
  readonly events: readonly RawEvent[];
  /** Where reading goes on after this batch: last offset + 1 (or further: offsets may have gaps). */
  readonly nextOffset: bigint;
  /** Size of the values, bytes. */
  readonly bytes: number;
  /** Messages still to come in this partition when the batch was fetched (high watermark - nextOffset). */
  readonly lagEvents: bigint;
  /** Distinct W3C `traceparent` headers found in the batch, at most a few. */
  readonly traceParents: readonly string[];
  /** Without events: when its end was last asked to be looked for, of `performance.now()`. */
  readonly lookedForMs?: number;
}

/** Where a partition resumes: what the replica says, never what Kafka says. `null`: from the partition's beginning. */
export type ResumeOffset = (partition: Partition) => Promise<bigint | null>;

/** The router's share of the table topics, as a member of its replica's consumer group. */
export interface EventConsumer extends AsyncDisposable {
  /**
   * Batches of the partitions this router holds, fair between them, each bounded by rows and bytes. Reading ahead is bounded in bytes;
   * not pulling stops the fetching. Topics that appear while running are picked up. A partition that moves to another router simply
   * stops coming; what was buffered of it is dropped.
   */
  batches(signal: AbortSignal): AsyncIterable<EventBatch>;
  /** The replica has committed everything before `nextOffset`. Told to Kafka for its lag tools only: nothing is read from there. */
  confirm(partition: Partition, nextOffset: bigint): void;
  /** Drops what is buffered of the partition and delivers it again from `ResumeOffset` after `delayMs`; other partitions go on. */
  hold(partition: Partition, delayMs: number): void;
  /**
   * Delivers the batch that was delivered last again after `delayMs`, before what comes after it: what it waits for is somewhere else. While much
   * is read ahead already it is as `hold`, or what is waited for might never be fetched.
   */
  defer(batch: EventBatch, delayMs: number): void;
  /**
   * Delivers a batch without events for each partition of the topic that this router holds, when nothing of it waits any more: after
   * `delayMs`, or once what waits has been taken. So it does by itself whenever it begins to read a partition.
   */
  lookAtEnd(topic: string, delayMs?: number): void;
  /** How far the topic's log goes now, by partition: the offset after the last message. null when there is no such topic. */
  ends(topic: string): Promise<ReadonlyMap<number, bigint> | null>;
  /** Partitions this router holds now, for /status. */
  assigned(): readonly OwnPartition[];
}
