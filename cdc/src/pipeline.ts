import { type BatchLimits, batchesOf, type ChangeBatch } from "./batching.ts";
import type { ChangeSource } from "./change-source.ts";
import type { EventPublisher } from "./event-publisher.ts";

/** Told of every batch that is durable and confirmed. */
export type OnPublished = (batch: ChangeBatch) => void;

/**
 * Reads, turns into batches, publishes, confirms, until `signal` aborts: the batch in hand is finished. Rejects with whatever a port
 * rejects with; nothing of the failed batch is confirmed then, and a fresh source reads it again.
 */
export async function pump(
  source: ChangeSource,
  publisher: EventPublisher,
  limits: BatchLimits,
  onPublished: OnPublished,
  signal: AbortSignal,
): Promise<void> {
  for await (const messages of source.messages(signal)) {
    for (const batch of batchesOf(messages, limits)) {
      if (batch.schemas.length > 0) await publisher.announce(batch.schemas);
      if (batch.events.length > 0) await publisher.publish(batch.events);
      if (batch.heartbeat !== null) await publisher.heartbeat(batch.heartbeat);
      if (batch.confirmable !== null) source.confirm(batch.confirmable);
      onPublished(batch);
      // Between batches of one delivery, not only between deliveries: a transaction of a million rows must not hold up the end.
      if (signal.aborted) return;
    }
  }
}
