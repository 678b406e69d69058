import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import type { ChangeEvent, EventTable } from "@cascade/shared/change-event";
import { EventWriter, eventEncoder } from "@cascade/shared/event-writer";
import { JsonBytes } from "@cascade/shared/json-bytes";
import fc from "fast-check";
import { EncodedRecords } from "kafkajs";
import { encodeRecords, recordHeaders } from "./event-records.ts";

/** Records as kafkajs writes and reads them itself. */

const inside = createRequire(import.meta.url);
const encodeRecord = inside("kafkajs/src/protocol/recordBatch/record/v0") as (record: object) => { readonly buffer: Buffer };
const decodeRecords = inside("kafkajs/src/protocol/recordBatch/record/v0/decoder") as (
  records: Buffer,
  count: number,
  context: object,
) => readonly { readonly offset: string; readonly key: Buffer | null; readonly value: Buffer; readonly headers: object }[];
const CONTEXT = { firstOffset: "0", firstTimestamp: "0", magicByte: 2, maxTimestamp: "0", timestampType: 0 };

const AT_MS = 1_700_000_000_000;
const TABLE: EventTable = { schema: "public", table: "o", topic: "app.public.o", schemaId: "0123456789abcdef" };
const TRANSACTION = { txId: 7, commitLsn: 9n, committedAtMs: AT_MS };
const HEADERS = [{}, { traceparent: "00-1" }, { traceparent: "é".repeat(40), "cascade.schemas-first": "1" }] as const;

/** Of so many bytes: around the lengths where a varint takes one byte more. */
const json = fc
  .tuple(fc.oneof(fc.nat(150), fc.integer({ min: 8_170, max: 8_200 })), fc.constantFrom("x", "é"), fc.boolean())
  .map(([bytes, character, isText]) => {
    const text = `"${character.repeat(bytes / Buffer.byteLength(character))}"`;
    return isText ? text : JsonBytes.of(text);
  });
const event = (ordinal: number, key: ChangeEvent["key"], after: ChangeEvent["after"]): ChangeEvent => ({
  ...{ op: "c", table: TABLE, transaction: TRANSACTION, ordinal, lsn: 5n, key, before: null, after },
});
const eventAndHeaders = fc
  .tuple(fc.maxSafeNat(), fc.option(json), fc.option(json), fc.nat(HEADERS.length - 1))
  .map(([ordinal, key, after, headers]) => ({ event: event(ordinal, key, after), headers: HEADERS[headers] ?? {} }));

function encodedOf(
  items: readonly { readonly event: ChangeEvent; readonly headers: Readonly<Record<string, string>> }[],
  spare = 0,
) {
  const headers = new Map(items.map((item) => [item.event, recordHeaders(item.headers)]));
  const texts = items.map((item) => eventEncoder("app", "db")(item.event, AT_MS));
  const wanted = items.map((item, offsetDelta) => {
    const key = item.event.key === null ? null : String(item.event.key);
    const record = { key, value: texts[offsetDelta], headers: item.headers, offsetDelta, timestampDelta: 0 };
    return Buffer.from(encodeRecord(record).buffer);
  });
  const reference = Buffer.concat(wanted);
  const records = encodeRecords(
    items.map((item) => item.event),
    {
      writer: new EventWriter("app", "db"),
      partition: 0,
      capturedAtMs: AT_MS,
      headersOf: (of) => headers.get(of) ?? Buffer.alloc(0),
      maxBytes: reference.length + spare,
    },
  );
  return { records, bytes: records.buf.subarray(records.start, records.offset), reference, texts };
}

test("records of events are the bytes that kafkajs makes of the same messages", () => {
  const items = fc.array(eventAndHeaders, { minLength: 1, maxLength: 90 });
  fc.assert(
    fc.property(items, fc.constantFrom(0, 1, 70_000), (written, spare) => {
      const { records, bytes, reference } = encodedOf(written, spare);
      expect(bytes.equals(reference)).toBe(true);
      expect(records.length).toBe(written.length);
      expect(records.timestamp).toBe(AT_MS);
      // Where kafkajs may take their buffer over, it has room for its own beginning.
      expect(records.start).toBe(reference.length + spare < 65_536 ? 0 : EncodedRecords.HEADROOM);
    }),
    { numRuns: 300 },
  );
});

test("every record of a long batch, one of them a megabyte long, is read by kafkajs at its offset", () => {
  const items = Array.from({ length: 8_300 }, (_, i) => ({
    event: event(i, `{"id":${i}}`, null),
    headers: HEADERS[i % 2] ?? {},
  }));
  items[8_200] = { event: event(1, null, JsonBytes.of(`"${"é".repeat(2 ** 19)}"`)), headers: {} };
  const { bytes, texts } = encodedOf(items);
  const decoded = decodeRecords(bytes, items.length, CONTEXT);
  expect(decoded.map(({ offset }) => Number(offset))).toEqual(items.map((_, i) => i));
  expect(decoded.map(({ value }) => value.toString())).toEqual(texts);
  expect(decoded.map(({ key }) => key?.toString() ?? null)).toEqual(items.map(({ event: { key } }) => key as string | null));
});

test("events that take more bytes than were planned for are not sent", () => {
  const item = { event: event(1, '{"id":1}', '{"id":1}'), headers: {} };
  expect(() => encodedOf([item, item], -1)).toThrow(RangeError);
  expect(() => encodedOf([item, item], -200)).toThrow(RangeError);
});
