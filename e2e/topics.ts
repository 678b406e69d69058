import { decodeChangeEvent } from "@cascade/shared/change-event";
import { kafkaClient } from "@cascade/shared/kafka";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic } from "@cascade/shared/kafka-whole-topic";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import { tableOfTopic } from "@cascade/shared/topic";
import type { Admin, Kafka, KafkaMessage, Message } from "kafkajs";

const silent = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

export function testClient(brokers: string): Kafka {
  return kafkaClient({ brokers: brokers.split(","), clientId: "e2e", ssl: null, sasl: null, logger: silent }, new KafkaSockets());
}

export async function withAdmin<T>(brokers: string, work: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = testClient(brokers).admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

export async function tableTopics(brokers: string, prefix: string): Promise<readonly string[]> {
  const topics = await withAdmin(brokers, (admin) => admin.listTopics());
  return topics.filter((topic) => tableOfTopic(prefix, topic) !== null).sort();
}

/** Where the only partition of a topic ends. */
export async function topicEnd(brokers: string, topic: string): Promise<number> {
  const [partition] = await withAdmin(brokers, (admin) => admin.fetchTopicOffsets(topic));
  return Number(partition?.high ?? 0);
}

/** Deletes every message that the topics hold now, as an end of their retention would. */
export async function emptyTopics(brokers: string, topics: readonly string[]): Promise<void> {
  await withAdmin(brokers, async (admin) => {
    for (const topic of topics) {
      const ends = (await admin.fetchTopicOffsets(topic)).filter(({ high, low }) => high !== low);
      if (ends.length > 0)
        await admin.deleteTopicRecords({ topic, partitions: ends.map(({ partition, high }) => ({ partition, offset: high })) });
    }
  });
}

/** Every message that a topic of one partition holds now, in order. */
export async function readTopic(brokers: string, topic: string): Promise<readonly KafkaMessage[]> {
  const end = await topicEnd(brokers, topic);
  const messages: KafkaMessage[] = [];
  if (end === 0) return messages;
  const consumer = testClient(brokers).consumer({ groupId: `e2e-${crypto.randomUUID()}`, maxWaitTimeInMs: 100 });
  const whole = new WholeTopic(consumer, topic);
  await consumer.connect();
  await whole.read((message) => {
    if (Number(message.offset) < end) messages.push(message);
  });
  await withAdmin(brokers, (admin) => whole.settled(admin));
  await consumer.disconnect();
  return messages;
}

/** Publishes the topic's messages again, all of them in their order, behind those that are there. */
export async function duplicateTopic(brokers: string, topic: string): Promise<number> {
  const messages = await readTopic(brokers, topic);
  const producer = testClient(brokers).producer();
  await producer.connect();
  for (let at = 0; at < messages.length; at += 200) {
    const copies = messages
      .slice(at, at + 200)
      .map(({ key, value, headers }): Message => ({ key, value, ...(headers ? { headers } : {}) }));
    await producer.send({ topic, messages: copies, acks: -1 });
  }
  await producer.disconnect();
  return messages.length;
}

/** Commits offsets in the name of a group that has no members now. kafkajs's own admin takes seconds for each topic. */
export async function setGroupOffsets(brokers: string, groupId: string, offsets: ReadonlyMap<string, number>): Promise<void> {
  const consumer = testClient(brokers).consumer({ groupId, maxWaitTimeInMs: 100 });
  const joined = Promise.withResolvers<void>();
  consumer.on(consumer.events.GROUP_JOIN, () => joined.resolve());
  await consumer.connect();
  await consumer.subscribe({ topics: [...offsets.keys()] });
  await consumer.run({ autoCommit: false, eachMessage: async () => {} });
  await joined.promise;
  await consumer.commitOffsets([...offsets].map(([topic, offset]) => ({ topic, partition: 0, offset: String(offset) })));
  await consumer.disconnect();
}

/** How many events there are, repeated ones counted once. */
export function distinctPositions(messages: readonly KafkaMessage[]): number {
  const positions = messages.map(({ value }) => {
    const { commitLsn, ordinal } = decodeChangeEvent(value?.toString() ?? "");
    return `${commitLsn}/${ordinal}`;
  });
  return new Set(positions).size;
}

/** How many rows a table without a key has for a router that applies these events: what is not beyond the last one is a repetition. */
export function rowsLeft(messages: readonly KafkaMessage[]): number {
  let [rows, last] = [0, null as Position | null];
  for (const { value } of messages) {
    const event = decodeChangeEvent(value?.toString() ?? "");
    if (last !== null && comparePositions(event, last) <= 0) continue;
    last = event;
    if (event.marks?.replica === "") continue; // for nobody: a copy that is out contains it
    if (event.op === "t") rows = 0;
    else if (event.op === "d") rows -= 1;
    else if (event.op !== "u") rows += 1;
  }
  return rows;
}
