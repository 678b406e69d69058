import { CascadeError } from "@cascade/shared/errors";
import type { EventBatch } from "./event-consumer.ts";

/**
 * Errors that one event of a batch causes, or the first of those under a newer schema: the events before it can be applied. A statement
 * that takes too long may be of fewer rows.
 */
const OF_ONE_EVENT: ReadonlySet<string> = new Set([
  "MALFORMED_MESSAGE",
  "MALFORMED_EVENT",
  "UNKNOWN_SCHEMA",
  "UNSUPPORTED_VALUE",
  "CONSTRAINT_VIOLATED",
  "MISSING_ROW",
  "REPLICA_TABLE_MISMATCH",
  "REPLICA_TIMEOUT",
]);

export const isOfOneEvent = (error: unknown): boolean =>
  error instanceof CascadeError && OF_ONE_EVENT.has(error.code) && !OF_TABLES.has(error);

/** Errors that a smaller batch would meet as well: everything before the first event has been applied. */
const OF_TABLES = new WeakSet<object>();

/** Marks an error met at the first event of a batch. */
export function asOfTable(error: unknown): unknown {
  if (error instanceof CascadeError) OF_TABLES.add(error);
  return error;
}

/** The batch as two, in order. It must hold at least two events. */
export function halves(batch: EventBatch): readonly [EventBatch, EventBatch] {
  const middle = batch.events.length >> 1;
  const second = batch.events.slice(middle);
  const [next] = second;
  if (next === undefined || middle === 0) throw new Error("a batch of one event has no halves");
  return [
    {
      ...batch,
      events: batch.events.slice(0, middle),
      nextOffset: next.offset,
      lagEvents: batch.lagEvents + BigInt(second.length),
    },
    { ...batch, events: second },
  ];
}
