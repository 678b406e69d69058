import { expect, test } from "bun:test";
import { eventEncoder } from "@cascade/shared/event-writer";
import type { Batch, KafkaMessage } from "kafkajs";
import { fetchedEvents } from "./fetched-events.ts";

const encode = eventEncoder("p", "app");
const table = { schema: "public", table: "t", topic: "p.public.t", schemaId: "0123456789abcdef" };
const transaction = { txId: 7, commitLsn: 99n, committedAtMs: 1_795_402_676_163 };
const value = encode({ op: "c", table, transaction, ordinal: 0, lsn: 98n, key: null, before: null, after: '{"id":"é"}' }, 5);

/** As the patched kafkajs has it, or as it comes in Kafka's oldest format. */
function message(text: string | null, offset: number, isOldest = false): KafkaMessage {
  const own = text === null ? null : Buffer.from(text);
  const plain = { key: Buffer.from('{"id":"é"}'), value: own, offset: String(offset), headers: {} };
  const texts = { keyText: '{"id":"é"}', valueText: text, valueLength: own?.length ?? -1 };
  return (isOldest ? plain : { ...plain, ...texts }) as unknown as KafkaMessage;
}

const batchOf = (messages: readonly KafkaMessage[]): Batch =>
  ({ messages, lastOffset: () => String(messages.length - 1), highWatermark: String(messages.length) }) as unknown as Batch;

test.each([
  ["in the format of today", false],
  ["in Kafka's oldest format", true],
])("events %s are decoded as they are fetched; what is none is left to its turn", (_, isOldest) => {
  const texts = [value, "no event", null];
  const fetched = fetchedEvents(batchOf(texts.map((text, at) => message(text, at, isOldest))), 0n);
  expect(fetched?.events.map((event) => event.value)).toEqual(texts);
  expect(fetched?.events.map(({ key }) => key)).toEqual(Array(3).fill('{"id":"é"}'));
  expect(fetched?.events.map(({ decoded }) => decoded?.after ?? null)).toEqual([{ id: "é" }, null, null]);
  expect(fetched?.sizes).toEqual([Buffer.byteLength(value), "no event".length, 0]);
});

test("behind a message that is no event none is decoded: the table is held there", () => {
  const fetched = fetchedEvents(batchOf([message("x", 0), message(value, 1)]), 0n);
  expect(fetched?.events.map(({ decoded }) => decoded)).toEqual([null, null]);
  expect(fetched?.events[1]?.value).toBe(value);
});

test("those before the place to go on from are passed over", () => {
  const messages = [message(value, 0), message(value, 1)];
  expect(fetchedEvents(batchOf(messages), 1n)?.events.map(({ offset }) => offset)).toEqual([1n]);
  expect(fetchedEvents(batchOf(messages), 2n)).toBeNull();
});
