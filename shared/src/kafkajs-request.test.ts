import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import fc from "fast-check";

/** What `patches/kafkajs@2.2.4.patch` makes of a produce request: layers that take one another's buffer over, and the bytes of the protocol all the same. */

const inside = createRequire(import.meta.url);

interface Message {
  readonly key: string | null;
  readonly value: string;
  readonly timestamp: string;
  readonly headers?: Readonly<Record<string, string>>;
}
interface Partition {
  readonly partition: number;
  readonly firstSequence: number;
  readonly messages: readonly Message[];
}
interface TopicData {
  readonly topic: string;
  readonly partitions: readonly Partition[];
}
interface Encoded {
  readonly buffer: Buffer;
  size(): number;
}
const produce = inside("kafkajs/src/protocol/requests/produce/v3/request") as (request: {
  readonly acks: number;
  readonly timeout: number;
  readonly producerId: unknown;
  readonly producerEpoch: number;
  readonly topicData: readonly TopicData[];
}) => { readonly apiKey: number; readonly apiVersion: number; encode(): Promise<Encoded> };
const wholeRequest = inside("kafkajs/src/protocol/request") as (request: {
  readonly correlationId: number;
  readonly clientId: string;
  readonly request: ReturnType<typeof produce>;
}) => Promise<Encoded>;
const encodeRecord = inside("kafkajs/src/protocol/recordBatch/record/v0") as (message: object) => Encoded;
const crc32C = inside("kafkajs/src/protocol/recordBatch/crc32C") as (bytes: Buffer) => number;
const Long = inside("kafkajs/src/utils/long") as { fromInt(value: number): unknown };

const int = (bits: 8 | 16 | 32 | 64, value: number): Buffer => {
  const bytes = Buffer.alloc(bits / 8);
  if (bits === 64) bytes.writeBigInt64BE(BigInt(value));
  else bytes.writeIntBE(value, 0, bits / 8);
  return bytes;
};
const text = (value: string): Buffer => Buffer.concat([int(16, Buffer.byteLength(value)), Buffer.from(value)]);

/** The protocol's layout, by hand (facts.md §2: Produce 7 is written as 3). */
function reference(topicData: readonly TopicData[], clientId: string): Buffer {
  const topics = topicData.map(({ topic, partitions }) =>
    Buffer.concat([text(topic), int(32, partitions.length), ...partitions.flatMap(partitionOf)]),
  );
  const payload = Buffer.concat([int(16, -1), int(16, -1), int(32, 1000), int(32, topics.length), ...topics]);
  const request = Buffer.concat([int(16, 0), int(16, 3), int(32, 7), text(clientId), payload]);
  return Buffer.concat([int(32, request.length), request]);
}

function partitionOf({ partition, firstSequence, messages }: Partition): readonly Buffer[] {
  const first = Number(messages.map(({ timestamp }) => timestamp).sort()[0]);
  const records = messages.map((message, offsetDelta) =>
    Buffer.from(encodeRecord({ ...message, offsetDelta, timestampDelta: Number(message.timestamp) - first }).buffer),
  );
  const body = Buffer.concat([
    ...[int(16, 0), int(32, messages.length - 1), int(64, first)],
    ...[
      int(
        64,
        Number(
          messages
            .map(({ timestamp }) => timestamp)
            .sort()
            .at(-1),
        ),
      ),
      int(64, 5),
      int(16, 2),
      int(32, firstSequence),
    ],
    ...[int(32, records.length), ...records],
  ]);
  const crc = Buffer.alloc(4);
  crc.writeUInt32BE(crc32C(body));
  const batch = Buffer.concat([int(32, 0), int(8, 2), crc, body]);
  const set = Buffer.concat([int(64, 0), int(32, batch.length), batch]);
  return [int(32, partition), int(32, set.length), set];
}

const encode = (topicData: readonly TopicData[], clientId: string): Promise<Encoded> =>
  wholeRequest({
    correlationId: 7,
    clientId,
    request: produce({ acks: -1, timeout: 1000, producerId: Long.fromInt(5), producerEpoch: 2, topicData }),
  });

const size = fc.oneof(fc.nat(50), fc.integer({ min: 60_000, max: 70_000 }), fc.integer({ min: 130_000, max: 140_000 }));
const message = fc.record({
  key: fc.option(fc.string({ maxLength: 20 })),
  value: fc.tuple(size, fc.constantFrom("a", "é")).map(([length, character]) => character.repeat(length)),
  timestamp: fc.integer({ min: 1_700_000_000_000, max: 1_700_000_009_999 }).map(String),
  headers: fc.constantFrom({}, { traceparent: "00-1" }),
});
const partition = fc.record({
  partition: fc.nat(9),
  firstSequence: fc.nat(1000),
  messages: fc.array(message, { minLength: 1, maxLength: 4 }),
});
const topics = fc.array(
  fc.record({
    topic: fc.string({ minLength: 1, maxLength: 249 }),
    partitions: fc.array(partition, { minLength: 1, maxLength: 2 }),
  }),
  { minLength: 1, maxLength: 3 },
);

test("a produce request is the protocol's bytes, however large its layers are", async () => {
  await fc.assert(
    fc.asyncProperty(topics, fc.constantFrom("cdc", "x".repeat(3000)), async (topicData, clientId) => {
      const encoded = await encode(topicData, clientId);
      expect(encoded.size()).toBe(encoded.buffer.length);
      expect(encoded.buffer.equals(reference(topicData, clientId))).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("a large record is copied once on its way into the request, not by every layer", async () => {
  const value = "v".repeat(32 * 2 ** 20);
  const messages = [{ key: null, value, timestamp: "1700000000000" }];
  Bun.gc(true);
  const before = process.memoryUsage().arrayBuffers;
  const encoded = await encode([{ topic: "t", partitions: [{ partition: 0, firstSequence: 0, messages }] }], "cdc");
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1.5 * value.length);
  expect(encoded.size()).toBeGreaterThan(value.length);
});
