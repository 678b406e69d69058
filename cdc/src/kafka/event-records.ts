import type { ChangeEvent } from "@cascade/shared/change-event";
import type { EventWriter } from "@cascade/shared/event-writer";
import { byteLengthOf, copyBytes, writeJson } from "@cascade/shared/json-bytes";
import { EncodedRecords } from "kafkajs";

/** Headers of a record, as it ends: how many they are, then each one's name and value with their lengths. */
export type RecordHeaders = Buffer;

/** Names and values are short texts. */
export function recordHeaders(headers: Readonly<Record<string, string>>): RecordHeaders {
  const entries = Object.entries(headers).map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const);
  let size = sizeOfVarInt(entries.length);
  for (const entry of entries) for (const text of entry) size += sizeOfVarInt(text.length) + text.length;
  const bytes = Buffer.alloc(size);
  let at = writeVarInt(entries.length, bytes, 0);
  for (const entry of entries) {
    for (const text of entry) {
      at = writeVarInt(text.length, bytes, at);
      at = copyBytes(text, 0, text.length, bytes, at);
    }
  }
  return bytes;
}

export interface EventRecordsOptions {
  readonly writer: EventWriter;
  readonly partition: number;
  /** Milliseconds since 1970: when the events were captured, and the time of the records. */
  readonly capturedAtMs: number;
  readonly headersOf: (event: ChangeEvent) => RecordHeaders;
  /** Their bytes at most. */
  readonly maxBytes: number;
}

const NO_LENGTH = -1;
/** What kafkajs copies anyway. */
const SMALL_BYTES = 64 * 1024;

/**
 * The records of one record batch (Kafka's message format v2, facts.md §3), each written once where kafkajs puts its own beginning before them.
 * Runs for every row.
 */
export function encodeRecords(
  events: readonly ChangeEvent[],
  { writer, partition, capturedAtMs, headersOf, maxBytes }: EventRecordsOptions,
): EncodedRecords {
  const start = maxBytes < SMALL_BYTES ? 0 : EncodedRecords.HEADROOM;
  const buf = Buffer.allocUnsafe(start + maxBytes);
  let at = start;
  for (let offset = 0; offset < events.length; offset++) {
    const event = events[offset] as ChangeEvent;
    const headers = headersOf(event);
    const { key } = event;
    const keyBytes = key === null ? NO_LENGTH : byteLengthOf(key);
    const valueBytes = writer.sizeOf(event, capturedAtMs);
    // Attributes and timestamp delta take a byte each.
    const size =
      2 +
      sizeOfVarInt(offset) +
      sizeOfVarInt(keyBytes) +
      Math.max(keyBytes, 0) +
      sizeOfVarInt(valueBytes) +
      valueBytes +
      headers.length;
    at = writeVarInt(size, buf, at);
    buf[at++] = 0;
    buf[at++] = 0;
    at = writeVarInt(offset, buf, at);
    at = writeVarInt(keyBytes, buf, at);
    if (key !== null) at = writeJson(key, buf, at);
    at = writeVarInt(valueBytes, buf, at);
    at = writer.write(event, capturedAtMs, buf, at);
    at = copyBytes(headers, 0, headers.length, buf, at);
  }
  if (at > buf.length) throw new RangeError(`the records of ${events.length} events take ${at - start} bytes, over ${maxBytes}`);
  return new EncodedRecords({ buf, start, offset: at, length: events.length, partition, timestamp: capturedAtMs });
}

const zigZag = (value: number): number => ((value << 1) ^ (value >> 31)) >>> 0;

function sizeOfVarInt(value: number): number {
  const bits = zigZag(value);
  return bits < 0x80 ? 1 : bits < 0x4000 ? 2 : bits < 0x200000 ? 3 : bits < 0x10000000 ? 4 : 5;
}

function writeVarInt(value: number, into: Buffer, start: number): number {
  let at = start;
  let bits = zigZag(value);
  for (; bits > 0x7f; bits >>>= 7) into[at++] = (bits & 0x7f) | 0x80;
  into[at++] = bits;
  return at;
}
