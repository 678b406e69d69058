import { afterAll, beforeAll, expect, test } from "bun:test";
import type { LocalKafka, LocalKafkaCluster } from "@cascade/local/kafka.ts";
import { startTestCluster } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import { kafkaClient } from "@cascade/shared/kafka";
import { isKafkaError } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { kafkaOptions } from "@cascade/shared/testing/kafka-lab";
import type { Admin, Kafka, Transaction } from "kafkajs";
import { FencedProducer } from "../src/kafka/fenced-producer.ts";

/**
 * KAFKA-20734 on real brokers: the leader of a partition is gone when a transaction is committed, and the coordinator takes the partition
 * for one that was deleted. The transaction counts as done, and nobody can read it, nor anything after it.
 */
let cluster: LocalKafkaCluster;
let kafka: Kafka;
let admin: Admin;

beforeAll(async () => {
  cluster = await startTestCluster();
  kafka = kafkaClient({ ...kafkaOptions(""), brokers: cluster.brokers.split(",") }, new KafkaSockets());
  admin = kafka.admin({ retry: { retries: 0 } });
  await admin.connect();
}, 60_000);

afterAll(async () => {
  await admin.disconnect();
  await cluster[Symbol.asyncDispose]();
});

/** null while the partition has none, or no broker knows of the topic yet. */
async function leaderOf(topic: string): Promise<number | null> {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return topics[0]?.partitions[0]?.leader ?? null;
  } catch (error) {
    if (isKafkaError(error, "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PARTITION")) return null;
    throw error;
  }
}

/** Topics on one broker alone, which is not the one that coordinates transactions. */
async function topicsApart(topics: readonly string[]): Promise<LocalKafka> {
  const first = await opened(kafka, "first"); // Kafka makes the coordinator's topic for it
  await first.disconnect();
  const node = (await leaderOf("__transaction_state")) === 1 ? 2 : 1;
  const replicaAssignment = [{ partition: 0, replicas: [node] }];
  await admin.createTopics({ topics: topics.map((topic) => ({ topic, replicaAssignment })), waitForLeaders: false });
  for (const topic of topics) expect(await until(async () => (await leaderOf(topic)) === node, 10_000)).toBe(true);
  const leader = cluster.nodes[node - 1];
  if (leader === undefined) throw new Error(`the cluster has no node ${node}`);
  return leader;
}

/** Commits while the partitions' leader is away for so long that the controller has given it up. */
async function commitUnheard(transactions: readonly Transaction[], leader: LocalKafka, topics: readonly string[]): Promise<void> {
  await leader.kill();
  for (const transaction of transactions) await transaction.commit();
  for (const topic of topics) expect(await until(async () => (await leaderOf(topic)) === null, 20_000)).toBe(true);
  await Bun.sleep(1_000); // the coordinator asks again and again who leads
  await leader.start();
  for (const topic of topics) expect(await until(async () => (await leaderOf(topic)) !== null, 20_000)).toBe(true);
}

const isEmpty = async (topic: string): Promise<boolean> => (await admin.fetchTopicOffsets(topic))[0]?.high === "0";

/** A client whose next commit with anything in it is done by `commit` instead. */
function withFault(commit: (transaction: Transaction) => Promise<void>): Kafka {
  let struck = false;
  const producer: Kafka["producer"] = (options) => {
    const inner = kafka.producer(options);
    const transaction = async (): Promise<Transaction> => {
      const real = await inner.transaction();
      const strike = (): Promise<void> => {
        if (struck) return real.commit();
        struck = true;
        return commit(real);
      };
      return { ...real, commit: strike };
    };
    return { ...inner, transaction };
  };
  return Object.assign(Object.create(kafka), { producer });
}

async function opened(client: Kafka, transactionalId: string): Promise<FencedProducer & AsyncDisposable> {
  const producer = new FencedProducer(client, admin, transactionalId);
  await producer.connect();
  return Object.assign(producer, { [Symbol.asyncDispose]: () => producer.disconnect() });
}

/** Sent, and not committed. */
async function begun(transactionalId: string, topic: string): Promise<Transaction> {
  const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  const transaction = await producer.transaction();
  await transaction.send({ topic, acks: -1, messages: [{ key: "k", value: "1" }] });
  return transaction;
}

test("what is committed can be read, also where Kafka forgets to tell the partition of it", async () => {
  const topics = ["own", "former", "foreign"];
  const leader = await topicsApart(topics);
  const others = [await begun("former", "former"), await begun("somebody", "foreign")];
  const unheard = async (own: Transaction): Promise<void> => {
    await commitUnheard([own, ...others], leader, topics);
    for (const topic of topics) expect(await isEmpty(topic)).toBe(true); // else nothing was struck, and nothing is tested
  };
  await using own = await opened(withFault(unheard), "own");
  await own.send("own", [{ key: "k", value: "1" }]);
  expect(await isEmpty("own")).toBe(false);

  // What a former one has left comes to light before the next one reads.
  await using next = await opened(kafka, "former");
  expect(await isEmpty("former")).toBe(true);
  await next.takeOver("former");
  expect(await isEmpty("former")).toBe(false);

  // What is another's is told, with its cure.
  const sent = next.send("foreign", [{ key: "k", value: "1" }]);
  await expect(sent).rejects.toMatchObject({ code: "KAFKA_TRANSACTION_HANGS", verdict: "retry" });
}, 90_000);
