import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError } from "@cascade/shared/errors";
import type { EventBatch } from "./event-consumer.ts";

/**
 * Errors that one event of a batch causes, or the first of those under a newer schema: the events before it can be applied. A statement
 * that takes too long may be of fewer rows.
 */
const OF_ONE_EVENT: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "MALFORMED_MESSAGE",
  "MALFORMED_EVENT",
  "UNKNOWN_SCHEMA",
  "UNSUPPORTED_VALUE",
  "CONSTRAINT_VIOLATED",
  "REPLICA_FUNCTION_FAILED",
  "MISSING_ROW",
  "REPLICA_TABLE_MISMATCH",
  "REPLICA_TIMEOUT",
  "TOO_MANY_HELD_KEYS",
  "HELD_KEY_CHANGED",
]);

export const isOfOneEvent = (error: unknown): boolean =>
  error instanceof CascadeError && OF_ONE_EVENT.has(error.code) && !OF_TABLES.has(error);

/** Errors that are a row's own: the table's other rows can go on without it. Which of an engine's errors they are, its own table says. */
const OF_THE_ROW: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "MALFORMED_EVENT",
  "UNSUPPORTED_VALUE",
  "CONSTRAINT_VIOLATED",
  "REPLICA_FUNCTION_FAILED",
  "MISSING_ROW",
]);

export const isOfTheRow = (error: unknown): error is CascadeError =>
  error instanceof CascadeError && OF_THE_ROW.has(error.code) && !OF_TABLES.has(error);

/** Errors that a smaller batch would meet as well: everything before the first event has been applied. */
const OF_TABLES = new WeakSet<object>();

/** Marks an error that the table has met, and no row of the batch is to blame for. */
export function asOfTable(error: unknown): unknown {
  if (error instanceof CascadeError) OF_TABLES.add(error);
  return error;
}

const OFFSETS = new WeakMap<object, bigint>();

/** Where the message is that the error stops its partition at, null when it is not one message alone. */
export const offsetOf = (error: object): bigint | null => OFFSETS.get(error) ?? null;

export function atOffset<T>(error: T, { events: [event] }: EventBatch): T {
  if (error instanceof CascadeError && event !== undefined) OFFSETS.set(error, event.offset);
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
