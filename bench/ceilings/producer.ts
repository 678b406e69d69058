import { idempotentProducer } from "@cascade/shared/kafka";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { benchClient } from "../kafka-admin.ts";
import type { Ceiling } from "./ceiling.ts";

/** Under 1 MB, the largest batch that a broker takes by default. */
const MESSAGES_AT_ONCE = 1_500;
/** As large as a bench row's event is on the wire. */
const MESSAGE_BYTES = 560;

/** Messages that are there already, sent by the client that cdc uses, one request after the other, to all in-sync brokers. */
export async function plainProducer(brokers: string, topic: string, rows: number): Promise<Ceiling> {
  const sockets = new KafkaSockets();
  const kafka = benchClient(brokers, sockets);
  const [producer, admin] = [idempotentProducer(kafka), kafka.admin()];
  await Promise.all([producer.connect(), admin.connect()]);
  await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true });
  const value = "x".repeat(MESSAGE_BYTES);
  const messages = Array.from({ length: MESSAGES_AT_ONCE }, (_, at) => ({ key: `{"id":${at}}`, value }));
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  for (let sent = 0; sent < rows; sent += MESSAGES_AT_ONCE)
    await producer.send({ topic, acks: -1, messages: messages.slice(0, Math.min(MESSAGES_AT_ONCE, rows - sent)) });
  const seconds = (performance.now() - startedAt) / 1000;
  const used = process.cpuUsage(cpuBefore);
  const [partition] = await admin.fetchTopicOffsets(topic);
  await admin.deleteTopics({ topics: [topic] });
  await sockets.disconnect(producer, admin);
  if (Number(partition?.high) !== rows) throw new Error(`Kafka has ${partition?.high} of ${rows} messages`);
  return { rows, seconds, cpuSeconds: (used.user + used.system) / 1e6, peakRssBytes: 0 };
}
