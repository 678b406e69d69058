import { SCHEMAS_FIRST_HEADER } from "@cascade/shared/change-event";
import type { Batch, KafkaMessage } from "kafkajs";
import type { RawEvent } from "../event-consumer.ts";
import type { FetchedEvents } from "./event-queues.ts";

interface FetchedBatch extends FetchedEvents {
  /** What is said of tables by now must be read before these. */
  readonly schemasFirst: boolean;
}

/**
 * The events of a fetched batch from offset `from` on, as text; null when there are none. Turned into strings here, so that the
 * fetch's buffer and kafkajs's objects are free at once and the work is done while the batch before is being applied.
 */
export function fetchedEvents(batch: Batch, from: bigint): FetchedBatch | null {
  const events: RawEvent[] = [];
  const sizes: number[] = [];
  const traceParents = new Set<string>();
  let lastHeader: Buffer | null = null;
  let traceParent: string | null = null;
  let schemasFirst = false;
  for (const message of batch.messages) {
    const offset = BigInt(message.offset);
    if (offset < from) continue;
    if (message.headers?.[SCHEMAS_FIRST_HEADER] !== undefined) schemasFirst = true;
    const header = traceParentOf(message);
    // All messages of one publish carry the same, and share one text.
    if (header === null) traceParent = null;
    else if (lastHeader === null || traceParent === null || !header.equals(lastHeader)) {
      traceParent = header.toString("latin1");
      traceParents.add(traceParent);
      lastHeader = header;
    }
    const key = message.key?.toString("utf8") ?? null;
    events.push({ offset, key, value: message.value?.toString("utf8") ?? null, traceParent });
    sizes.push(message.value?.length ?? 0);
  }
  if (events.length === 0) return null;
  return {
    events,
    sizes,
    nextOffset: BigInt(batch.lastOffset()) + 1n,
    highWatermark: BigInt(batch.highWatermark),
    traceParents: [...traceParents],
    schemasFirst,
  };
}

function traceParentOf({ headers }: KafkaMessage): Buffer | null {
  const header = headers?.["traceparent"];
  return Buffer.isBuffer(header) ? header : null;
}
