import { randomUUID } from "node:crypto";
import type { Admin, KafkaMessage } from "kafkajs";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "../src/kafka.ts";
import type { KafkaLogger } from "../src/kafka-log.ts";
import { KafkaSockets } from "../src/kafka-sockets.ts";

/** What a test does with a real broker beside the adapter it tests, with a topic prefix of its own. */
export interface KafkaLab extends AsyncDisposable {
  readonly brokers: string;
  readonly prefix: string;
  /** For the adapters. */
  readonly kafka: KafkaOptions;
  /** What the adapters logged at WARN. */
  readonly warnings: string[];
  readonly admin: Admin;
  /** Resolves when the topic can be used. */
  createTopic(topic: string, options?: NewTopic): Promise<void>;
  /** Everything in a topic up to the ends it has now, each partition in order. */
  read(topic: string): Promise<LabMessage[]>;
  /** One message to partition 0, as anybody could. */
  write(topic: string, value: string): Promise<void>;
}

export interface LabMessage extends Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp"> {
  readonly partition: number;
}

export interface NewTopic {
  readonly partitions?: number;
  readonly settings?: Readonly<Record<string, string>>;
}

let labs = 0;

export async function kafkaLab(brokers: string): Promise<KafkaLab> {
  const warnings: string[] = [];
  const sockets = new KafkaSockets();
  const client = kafkaClient(kafkaOptions(brokers), sockets);
  const admin = client.admin({ retry: KAFKA_RETRY });
  await admin.connect();
  return {
    brokers,
    prefix: `lab-${process.pid}-${++labs}`,
    kafka: kafkaOptions(brokers, { ...silent, warn: (_fields, message) => void warnings.push(message) }),
    warnings,
    admin,
    createTopic: (topic, options) => createTopic(admin, topic, options),
    read: (topic) => readTopic(brokers, admin, topic),
    write: async (topic, value) => {
      const producer = client.producer({ createPartitioner: () => () => 0 });
      await producer.connect();
      await producer.send({ topic, messages: [{ value }] });
      await producer.disconnect();
    },
    async [Symbol.asyncDispose]() {
      await admin.disconnect().catch(() => {});
      sockets.close();
    },
  };
}

export const silent: KafkaLogger = { debug() {}, info() {}, warn() {}, error() {} };

export const kafkaOptions = (brokers: string, logger: KafkaLogger = silent): KafkaOptions => ({
  brokers: [brokers],
  clientId: "test",
  ssl: null,
  sasl: null,
  logger,
});

async function createTopic(admin: Admin, topic: string, { partitions = 1, settings = {} }: NewTopic = {}): Promise<void> {
  const configEntries = Object.entries(settings).map(([name, value]) => ({ name, value }));
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }], waitForLeaders: false });
  const visible = () =>
    admin.fetchTopicMetadata({ topics: [topic] }).then(
      () => true,
      () => false,
    );
  while (!(await visible())) await Bun.sleep(10);
}

async function readTopic(brokers: string, admin: Admin, topic: string): Promise<LabMessage[]> {
  const offsets = await admin.fetchTopicOffsets(topic);
  const unread = new Map(offsets.flatMap(({ partition, low, high }) => (low === high ? [] : [[partition, BigInt(high)]])));
  const messages: LabMessage[] = [];
  if (unread.size === 0) return messages;
  const sockets = new KafkaSockets();
  const consumer = kafkaClient(kafkaOptions(brokers), sockets).consumer({ groupId: randomUUID(), maxWaitTimeInMs: 50 });
  const { promise, resolve } = Promise.withResolvers<void>();
  try {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        const { partition } = batch;
        for (const { key, value, headers, offset, timestamp } of batch.messages)
          messages.push({ key, value, ...(headers === undefined ? {} : { headers }), offset, timestamp, partition });
        if (BigInt(batch.lastOffset()) + 1n >= (unread.get(partition) ?? 0n)) unread.delete(partition);
        if (unread.size === 0) resolve();
      },
    });
    await promise;
    return messages;
  } finally {
    await consumer.disconnect();
    sockets.close();
  }
}
