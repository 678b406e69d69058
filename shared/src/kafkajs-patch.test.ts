import { describe, expect, spyOn, test } from "bun:test";
import { createRequire } from "node:module";
import fc from "fast-check";

/** What `patches/kafkajs@2.2.4.patch` changes: each of these fails, or is too slow by far, with kafkajs as it is published. */

const inside = createRequire(import.meta.url);

interface Encoder {
  readonly buffer: Buffer;
  writeVarInt(value: number): Encoder;
  writeInt8(value: number): Encoder;
  writeVarLong(value: number | Long): Encoder;
  writeVarIntBytes(value: Field): Encoder;
  writeVarIntString(value: string): Encoder;
  writeVarIntArray(value: readonly Encoder[]): Encoder;
}
interface EncoderClass {
  new (): Encoder;
  sizeOfVarInt(value: number): number;
}
interface Long {
  readonly value: bigint;
}
type Field = Buffer | string | null;
interface Message {
  readonly offsetDelta: number;
  readonly timestampDelta: number | Long;
  readonly key: Field;
  readonly value: Field;
  readonly headers?: Readonly<Record<string, Field | Field[]>>;
}

const EncoderClass = inside("kafkajs/src/protocol/encoder") as EncoderClass;
const LongClass = inside("kafkajs/src/utils/long") as new (value: bigint) => Long;
const encodeRecord = inside("kafkajs/src/protocol/recordBatch/record/v0") as (message: Message) => Encoder;

/** The record as kafkajs's own primitives write it, which the patch leaves alone. */
function reference({ offsetDelta, timestampDelta, key, value, headers = {} }: Message): Buffer {
  const fields = Object.entries(headers).flatMap(([name, items]) => [items].flat().map((item) => ({ name, item })));
  const body = new EncoderClass()
    .writeInt8(0)
    .writeVarLong(timestampDelta)
    .writeVarInt(offsetDelta)
    .writeVarIntBytes(key)
    .writeVarIntBytes(value)
    .writeVarIntArray(fields.map(({ name, item }) => new EncoderClass().writeVarIntString(name).writeVarIntBytes(item))).buffer;
  return Buffer.concat([new EncoderClass().writeVarInt(body.length).buffer, body]);
}

const text = fc.string({ unit: "binary", maxLength: 300 });
const field = fc.oneof(
  text,
  fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc.constant(null),
);
const DAY_MS = 86_400_000;
const delta = fc.oneof(
  fc.constantFrom(0, 63, 64, -64, -65, 12 * DAY_MS, 13 * DAY_MS, 25 * DAY_MS, -25 * DAY_MS, 2 ** 31, -(2 ** 31) - 1),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((value) => new LongClass(value)),
);
const message: fc.Arbitrary<Message> = fc.record({
  offsetDelta: fc.nat(),
  timestampDelta: delta,
  key: field,
  value: field,
  headers: fc.dictionary(text, fc.oneof(field, fc.array(field, { maxLength: 3 })), { maxKeys: 4 }),
});

describe("record encoder", () => {
  test("writes the bytes that kafkajs's own primitives write", () => {
    fc.assert(
      fc.property(message, (record) => {
        expect(encodeRecord(record).buffer.toString("hex")).toBe(reference(record).toString("hex"));
      }),
      { numRuns: 2_000 },
    );
  });

  test("writes lengths at every width of a varint", () => {
    for (const size of [0, 1, 63, 64, 8_191, 8_192, 1_048_575, 1_048_576]) {
      const record = { offsetDelta: size, timestampDelta: 0, key: null, value: Buffer.alloc(size, "x") };
      expect(encodeRecord(record).buffer.equals(reference(record))).toBe(true);
    }
  });

  test("takes a message without headers", () => {
    const record = { offsetDelta: 1, timestampDelta: 0, key: '{"id":1}', value: "é€😀" };
    expect(encodeRecord(record).buffer).toEqual(reference(record));
  });

  test("allocates the record's bytes and no more", () => {
    const { buf } = encodeRecord({ offsetDelta: 0, timestampDelta: 0, key: "k", value: "v" }) as unknown as { buf: Buffer };
    expect(buf.length).toBe(9);
  });
});

describe("crc32c", () => {
  const crc32C = inside("kafkajs/src/protocol/recordBatch/crc32C") as (bytes: Buffer) => number;

  /** Bit by bit, from the polynomial alone. */
  function slowly(bytes: Uint8Array): number {
    let crc = 0xffff_ffff;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
    }
    return (crc ^ 0xffff_ffff) >>> 0;
  }

  test("is CRC-32C, whatever the length", () => {
    expect(crc32C(Buffer.from("123456789"))).toBe(0xe306_9283);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(crc32C(Buffer.from(bytes))).toBe(slowly(bytes));
      }),
    );
  });
});

describe("groupMessagesPerPartition", () => {
  const group = inside("kafkajs/src/producer/groupMessagesPerPartition") as (options: {
    topic: string;
    partitionMetadata: readonly object[];
    messages: readonly number[];
    partitioner: (of: { message: number }) => number;
  }) => Record<number, number[]>;
  const grouped = (messages: readonly number[], partitions: number) =>
    group({ topic: "t", partitionMetadata: [{}], messages, partitioner: ({ message }) => message % partitions });

  test("keeps the order within each partition", () => {
    expect(grouped([1, 2, 3, 4, 5, 7], 2)).toEqual({ 0: [2, 4], 1: [1, 3, 5, 7] });
  });

  test("costs no copy of the array for every message", () => {
    const messages = Array.from({ length: 100_000 }, (_, i) => i);
    const started = performance.now();
    expect(grouped(messages, 1)[0]).toHaveLength(messages.length);
    // Milliseconds; the published code moves 40 GB for this.
    expect(performance.now() - started).toBeLessThan(2_000);
  });
});

describe("request queue", () => {
  interface RequestQueue {
    pending: object[];
    scheduleCheckPendingRequests(): void;
    destroy(): void;
  }
  const RequestQueueClass = inside("kafkajs/src/network/requestQueue") as new (options: object) => RequestQueue;
  const queue = () => new RequestQueueClass({ requestTimeout: 1_000, clientId: "c", broker: "b", logger: { debug() {} } });

  test("arms no timer with nothing to send", () => {
    const timers = spyOn(globalThis, "setTimeout");
    try {
      const idle = queue();
      idle.scheduleCheckPendingRequests();
      expect(timers).not.toHaveBeenCalled();
      idle.pending.push({});
      idle.scheduleCheckPendingRequests();
      expect(timers).toHaveBeenCalledTimes(1);
      idle.destroy();
    } finally {
      timers.mockRestore();
    }
  });
});

describe("joining a group", () => {
  interface ConsumerGroup {
    joinAndSync(): Promise<void>;
  }
  const ConsumerGroupClass = inside("kafkajs/src/consumer/consumerGroup") as new (options: object) => ConsumerGroup;
  const logger = { debug() {}, info() {}, warn() {}, error() {}, namespace: () => logger };
  const refusal = (type: string) => Object.assign(new Error(type), { type, retriable: true });

  /** Joins with a coordinator that refuses at first; the events of joining. */
  async function join(refusals: readonly string[]): Promise<string[]> {
    const left = [...refusals];
    const events: string[] = [];
    const coordinator = {
      joinGroup: async () => {
        const type = left.shift();
        if (type !== undefined) throw refusal(type);
        return { generationId: 1, leaderId: "other", memberId: "me", members: [], groupProtocol: "RoundRobinAssigner" };
      },
      syncGroup: async () => ({ memberAssignment: Buffer.alloc(0) }),
    };
    const group = new ConsumerGroupClass({
      retry: { retries: 4, initialRetryTime: 1, maxRetryTime: 1 },
      cluster: { findGroupCoordinator: async () => coordinator, committedOffsets: () => ({}) },
      groupId: "g",
      topics: [],
      logger,
      instrumentationEmitter: { emit: (event: string) => void events.push(event) },
      assigners: [],
    });
    await group.joinAndSync();
    return events;
  }

  test.each(["GROUP_LOAD_IN_PROGRESS", "GROUP_COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR_FOR_GROUP"])(
    "waits out %s, which a broker that has just started says",
    async (type) => {
      expect(await join([type, type])).toEqual(["consumer.group_join"]);
    },
  );

  test("does not wait out a refusal that stands", async () => {
    await expect(join(["GROUP_AUTHORIZATION_FAILED"])).rejects.toThrow("GROUP_AUTHORIZATION_FAILED");
  });
});
