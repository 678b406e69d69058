import { decodeChangeEvent, type ReceivedEvent, SCHEMAS_FIRST_HEADER } from "@cascade/shared/change-event";
import type { Batch, KafkaMessage } from "kafkajs";
import type { RawEvent } from "../event-consumer.ts";
import type { FetchedEvents } from "./event-queues.ts";

interface FetchedBatch extends FetchedEvents {
  /** What is said of tables by now must be read before these. */
  readonly schemasFirst: boolean;
}

/** Its texts are cut out of the fetch's buffer when they are asked for: where a message is no event, or is held back. */
class FetchedEvent implements RawEvent {
  readonly offset: bigint;
  readonly traceParent: string | null;
  readonly decoded: ReceivedEvent | null;
  readonly #message: KafkaMessage;

  constructor(offset: bigint, message: KafkaMessage, traceParent: string | null, isDecoded: boolean) {
    this.offset = offset;
    this.#message = message;
    this.traceParent = traceParent;
    this.decoded = isDecoded ? decodedOf(this.value) : null;
  }

  get key(): string | null {
    const { keyText, key } = this.#message;
    return keyText === undefined ? (key?.toString("utf8") ?? null) : keyText; // without one in messages of Kafka's oldest format
  }

  get value(): string | null {
    const { valueText, value } = this.#message;
    return valueText === undefined ? (value?.toString("utf8") ?? null) : valueText;
  }
}

function decodedOf(value: string | null): ReceivedEvent | null {
  if (value === null) return null;
  try {
    return decodeChangeEvent(value);
  } catch {
    return null; // it is read again in its turn, which says what is wrong with it
  }
}

/**
 * The events of a fetched batch from offset `from` on; null when there are none. Decoded here, so that the work is done while the batch
 * before is being applied.
 */
export function fetchedEvents(batch: Batch, from: bigint): FetchedBatch | null {
  const events: RawEvent[] = [];
  const sizes: number[] = [];
  let lastHeader: Buffer | null = null;
  let traceParent: string | null = null;
  let schemasFirst = false;
  let areEvents = true;
  for (const message of batch.messages) {
    const offset = BigInt(message.offset);
    if (offset < from) continue;
    if (message.headers?.[SCHEMAS_FIRST_HEADER] !== undefined) schemasFirst = true;
    const header = traceParentOf(message);
    // All messages of one publish carry the same, and share one text.
    if (header === null) traceParent = null;
    else if (lastHeader === null || traceParent === null || !header.equals(lastHeader)) {
      traceParent = header.toString("latin1");
      lastHeader = header;
    }
    const event = new FetchedEvent(offset, message, traceParent, areEvents);
    events.push(event);
    // Nobody gets past it for now, and saying what is wrong with all of them would take long.
    if (event.decoded === null && message.value !== null) areEvents = false;
    sizes.push(Math.max(message.valueLength ?? message.value?.length ?? 0, 0));
  }
  if (events.length === 0) return null;
  return {
    events,
    sizes,
    nextOffset: BigInt(batch.lastOffset()) + 1n,
    highWatermark: BigInt(batch.highWatermark),
    schemasFirst,
  };
}

function traceParentOf({ headers }: KafkaMessage): Buffer | null {
  const header = headers?.["traceparent"];
  return Buffer.isBuffer(header) ? header : null;
}
