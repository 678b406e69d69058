import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import fc from "fast-check";
import { CompressionTypes, EncodedRecords } from "kafkajs";
import "./kafka.ts"; // zstd

/** What `patches/kafkajs@2.2.4.patch` makes of records that come encoded: the request that it makes of the same messages. */

const inside = createRequire(import.meta.url);

interface Message {
  readonly key: string | null;
  readonly value: string;
  readonly timestamp: string;
}
interface TopicData {
  readonly topic: string;
  readonly partitions: readonly { partition: number; firstSequence: number; messages: readonly Message[] | EncodedRecords }[];
}
const produce = inside("kafkajs/src/protocol/requests/produce/v3/request") as (request: object) => object;
const wholeRequest = inside("kafkajs/src/protocol/request") as (
  request: object,
) => Promise<{ readonly buffer: Buffer; size(): number }>;
const encodeRecord = inside("kafkajs/src/protocol/recordBatch/record/v0") as (message: object) => { readonly buffer: Buffer };
const Long = inside("kafkajs/src/utils/long") as { fromInt(value: number): unknown };

const AT_MS = 1_700_000_000_000;

function encoded(messages: readonly Message[], hasHeadroom: boolean): EncodedRecords {
  const records = messages.map(
    (message, offsetDelta) => encodeRecord({ ...message, headers: {}, offsetDelta, timestampDelta: 0 }).buffer,
  );
  const start = hasHeadroom ? EncodedRecords.HEADROOM : 0;
  const buf = Buffer.concat([Buffer.alloc(start, 0xaa), ...records, Buffer.alloc(100, 0xaa)]);
  return new EncodedRecords({ buf, start, offset: buf.length - 100, length: messages.length, partition: 0, timestamp: AT_MS });
}

const encode = async (
  correlationId: number,
  clientId: string,
  compression: CompressionTypes,
  topicData: readonly TopicData[],
) => {
  const request = produce({ acks: -1, timeout: 1000, producerId: Long.fromInt(5), producerEpoch: 2, compression, topicData });
  return (await wholeRequest({ correlationId, clientId, request })).buffer;
};

const message = fc.record({
  key: fc.option(fc.string({ maxLength: 20 })),
  value: fc
    .tuple(fc.oneof(fc.nat(50), fc.integer({ min: 60_000, max: 70_000 }), fc.constant(300_000)), fc.constantFrom("a", "é"))
    .map(([length, character]) => character.repeat(length)),
  timestamp: fc.constant(String(AT_MS)),
});
const topics = fc.array(
  fc.record({
    topic: fc.string({ minLength: 1, maxLength: 249 }),
    messages: fc.array(message, { minLength: 1, maxLength: 4 }),
    hasHeadroom: fc.boolean(),
  }),
  { minLength: 1, maxLength: 3 },
);
const compressions = fc.constantFrom(CompressionTypes.None, CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.ZSTD);
const clientIds = fc.constantFrom("cdc", "x".repeat(3_000));

test("records that come encoded make the request of the same messages, in every try, and no try spoils another's bytes", async () => {
  await fc.assert(
    fc.asyncProperty(topics, compressions, clientIds, fc.boolean(), async (given, compression, clientId, atOnce) => {
      const records = given.map(({ messages, hasHeadroom }) => encoded(messages, hasHeadroom));
      const dataOf = (attempt: number, of: (at: number) => readonly Message[] | EncodedRecords): TopicData[] =>
        given.map(({ topic }, at) => ({
          topic,
          partitions: [{ partition: 0, firstSequence: 10 * attempt + at, messages: of(at) }],
        }));
      const tryNo = (attempt: number) =>
        encode(
          attempt,
          clientId,
          compression,
          dataOf(attempt, (at) => records[at] as EncodedRecords),
        );
      const attempts: Promise<Buffer>[] = [];
      for (const attempt of [1, 2, 3]) {
        attempts.push(tryNo(attempt));
        if (!atOnce) await attempts.at(-1);
      }
      for (const [i, bytes] of (await Promise.all(attempts)).entries()) {
        const wanted = await encode(
          i + 1,
          clientId,
          compression,
          dataOf(i + 1, (at) => given[at]?.messages ?? []),
        );
        expect(bytes.equals(wanted)).toBe(true);
      }
    }),
    { numRuns: 60 },
  );
});

test("a large batch of encoded records is not copied on its way into its first request", async () => {
  const records = encoded([{ key: null, value: "v".repeat(32 * 2 ** 20), timestamp: String(AT_MS) }], true);
  const bytes = await encode(1, "cdc", CompressionTypes.None, [
    { topic: "t", partitions: [{ partition: 0, firstSequence: 0, messages: records }] },
  ]);
  expect(bytes.buffer).toBe(records.buf.buffer);
});
