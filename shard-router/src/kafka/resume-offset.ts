import { decodeChangeEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { Partition } from "../event-consumer.ts";

const OFFSET_ABOVE_LOG = "OFFSET_ABOVE_LOG";

/** A leader just elected may show an older end of the log for a moment, before it has caught up with what it has acknowledged. */
const CATCH_UP_TRIES = 6;
const CATCH_UP_PAUSE_MS = 400;

export interface Start {
  readonly offset: bigint;
  /** Where the log begins. */
  readonly low: bigint;
}

/**
 * Where to read a partition from, given what the replica remembers (null: nothing yet, so everything is needed). Kafka itself would not
 * tell: kafkajs jumps to the earliest offset there is, and the changes before it would be missing without a word.
 * Rejects with CascadeError OFFSET_BELOW_RETENTION or OFFSET_ABOVE_LOG (verdict stop-table).
 */
export async function startOffset(looks: WatermarkLooks, partition: Partition, remembered: bigint | null): Promise<Start> {
  const needed = remembered ?? 0n;
  for (let tries = 1; ; tries++) {
    const { low, high } = await looks.of(partition);
    if (needed < low) throw new BelowRetentionError(partition, remembered, low);
    if (needed <= high) return { offset: needed, low };
    if (tries === CATCH_UP_TRIES) throw aboveLog(partition, needed, high);
    await Bun.sleep(CATCH_UP_PAUSE_MS);
  }
}

/** The log does not hold what the replica has applied: it was made anew, or has lost its end. */
export const isLostLog = (error: unknown): boolean => error instanceof CascadeError && error.code === OFFSET_ABOVE_LOG;

/**
 * Partitions whose log was found to end before what a replica has applied. Such a log grows past that offset in time, and going on there
 * would skip the changes before it: the partition stays stopped until a copy is asked for, or the replica's progress moved.
 */
export class LostLogs {
  readonly #lost = new Map<string, { readonly error: CascadeError; remembered: bigint | null | undefined }>();

  /** Takes note of a partition's error, when it is one of these. `remembered` is what the replica says, where that is known. */
  note(key: string, error: unknown, remembered?: bigint | null): void {
    if (!isLostLog(error) || this.#lost.has(key)) return;
    this.#lost.set(key, { error: error as CascadeError, remembered });
  }

  /** The replica will have what was lost by a copy. */
  forget(key: string): void {
    this.#lost.delete(key);
  }

  /** Throws that error again for as long as the replica remembers the same. */
  check(key: string, remembered: bigint | null): void {
    const lost = this.#lost.get(key);
    if (lost === undefined) return;
    // What was in hand when the error came up has been applied since: only now is it known what the replica remembers.
    if (lost.remembered === undefined) lost.remembered = remembered;
    if (lost.remembered === remembered) throw lost.error;
    this.#lost.delete(key);
  }
}

/** Kafka does not hold all that a replica needs of a partition. */
export interface Loss {
  /** Where what it holds begins. */
  readonly low: bigint;
  /** Where the replica would have gone on when that was seen; null: from the beginning. */
  readonly remembered: bigint | null;
}

/** Kafka has deleted what the replica needs next. */
export class BelowRetentionError extends CascadeError {
  /** What is left begins here. */
  readonly low: bigint;

  constructor({ topic, partition }: Partition, remembered: bigint | null, low: bigint) {
    const needs = remembered === null ? "a new replica needs it from offset 0" : `the replica needs it from offset ${remembered}`;
    const move =
      remembered === null
        ? `insert the row of ${topic}[${partition}] into its cascade_progress (next_offset ${low}, commit_lsn '0/0', ordinal 0)`
        : `set next_offset of ${topic}[${partition}] in its cascade_progress to ${low}`;
    super({
      code: "OFFSET_BELOW_RETENTION",
      verdict: "stop-table",
      message: `changes are gone from Kafka: ${topic}[${partition}] begins at offset ${low}, and ${needs}`,
      advice: `fill the table of this replica again (a snapshot), or, when it holds those changes already, ${move}; give the topic a longer retention.ms`,
    });
    this.low = low;
  }
}

function aboveLog({ topic, partition }: Partition, needed: bigint, high: bigint): CascadeError {
  const message = `${topic}[${partition}] ends at offset ${high}, and the replica has applied up to ${needed}`;
  return lostEnd({ topic, partition }, message);
}

/** What Kafka sends begins before the offset asked for: it had lost it. */
export function logRestarted({ topic, partition }: Partition, needed: bigint): CascadeError {
  return lostEnd({ topic, partition }, `${topic}[${partition}] ended before offset ${needed}, up to which it was read`);
}

/**
 * The message before the offset to go on from: a replica that has applied up to there has applied it, so it is not after the replica's
 * position, unless this is another log, which has grown past the offset unseen.
 */
export function isAfter(value: string | null, position: Position): boolean {
  try {
    return value !== null && comparePositions(decodeChangeEvent(value), position) > 0;
  } catch {
    return false; // no event: whoever applied up to here has dealt with it
  }
}

export function logReplaced({ topic, partition }: Partition, needed: bigint): CascadeError {
  return lostEnd(
    { topic, partition },
    `${topic}[${partition}] holds newer changes before offset ${needed} than the replica has applied`,
  );
}

function lostEnd({ topic, partition }: Partition, message: string): CascadeError {
  return new CascadeError({
    code: OFFSET_ABOVE_LOG,
    verdict: "stop-table",
    message: `${message}: the topic was made anew, or Kafka has lost its end`,
    advice: `nothing to do when cdc knows the table: the router asks for a copy by itself; else fill it again (a snapshot), or set next_offset of ${topic}[${partition}] in its cascade_progress to where this log goes on, and its commit_lsn to '0/0'`,
  });
}
