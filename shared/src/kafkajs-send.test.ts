import { expect, test } from "bun:test";
import { createRequire } from "node:module";

/** What the patch changes in kafkajs's producer: a send that is tried again after a leader has moved. */

const inside = createRequire(import.meta.url);

interface FakeBroker {
  readonly nodeId: number;
  produce(request: { readonly topicData: readonly TopicData[] }): Promise<unknown>;
}
interface TopicData {
  readonly topic: string;
  readonly partitions: readonly { readonly partition: string; readonly messages: readonly { readonly value: string }[] }[];
}
type Send = (request: object) => Promise<readonly { readonly topicName: string }[]>;
const createSend = inside("kafkajs/src/producer/sendMessages") as (options: object) => Send;
const { KafkaJSConnectionError } = inside("kafkajs/src/errors") as { KafkaJSConnectionError: new (message: string) => Error };

interface Cluster {
  readonly leaders: Record<string, number>;
  readonly log: Map<string, string[]>;
  readonly down: Set<number>;
}

function senderOn({ leaders, log, down }: Cluster, onRetry: () => void): Send {
  const brokers = new Map<number, FakeBroker>();
  for (const nodeId of new Set(Object.values(leaders)))
    brokers.set(nodeId, {
      nodeId,
      produce: async ({ topicData }) => {
        if (down.has(nodeId)) throw new KafkaJSConnectionError("Closed connection");
        const topics = topicData.map(({ topic, partitions }) => {
          for (const { messages } of partitions)
            log.set(topic, [...(log.get(topic) ?? []), ...messages.map(({ value }) => value)]);
          return { topicName: topic, partitions: [{ partition: 0, errorCode: 0, baseOffset: "0" }] };
        });
        return { topics };
      },
    });
  const cluster = {
    refreshMetadataIfNecessary: async () => {},
    refreshMetadata: async () => {},
    addMultipleTargetTopics: async () => {},
    isConnected: () => true,
    removeBroker: () => {},
    targetTopics: new Set(),
    findTopicPartitionMetadata: () => [{ partitionId: 0 }],
    findLeaderForPartitions: (topic: string, partitions: readonly string[]) =>
      partitions.length === 0 ? {} : { [leaders[topic] ?? 0]: partitions.map(Number) },
    findBroker: async ({ nodeId }: { nodeId: string }) => brokers.get(Number(nodeId)),
  };
  const eosManager = {
    isTransactional: () => false,
    acquireBrokerLock: async () => {},
    releaseBrokerLock: async () => {},
    getSequence: () => 0,
    updateSequence: () => {},
    getProducerId: () => 1,
    getProducerEpoch: () => 0,
  };
  const retrier = async (attempt: (bail: (error: unknown) => void) => Promise<unknown>): Promise<unknown> => {
    for (;;) {
      try {
        return await attempt((error) => {
          throw error;
        });
      } catch {
        onRetry();
      }
    }
  };
  const logger = { debug: () => {}, error: () => {} };
  return createSend({ logger, cluster, partitioner: () => 0, eosManager, retrier });
}

const topicMessages = ["a", "b"].map((topic) => ({ topic, messages: [{ value: `of ${topic}` }] }));

test("messages whose leader moves to a broker that has answered for other topics are sent there", async () => {
  const cluster: Cluster = { leaders: { a: 1, b: 2 }, log: new Map(), down: new Set([1]) };
  const send = senderOn(cluster, () => {
    cluster.leaders["a"] = 2;
  });
  const acknowledged = await send({ acks: -1, topicMessages });
  expect([...cluster.log]).toEqual([
    ["b", ["of b"]],
    ["a", ["of a"]],
  ]);
  expect(acknowledged.map(({ topicName }) => topicName).toSorted()).toEqual(["a", "b"]);
});

test("messages that a broker has acknowledged are not sent again to the one that leads them now", async () => {
  const cluster: Cluster = { leaders: { a: 1, b: 2 }, log: new Map(), down: new Set([1]) };
  const send = senderOn(cluster, () => {
    cluster.down.clear();
    cluster.leaders["b"] = 1;
  });
  await send({ acks: -1, topicMessages });
  expect(cluster.log.get("b")).toEqual(["of b"]);
});
