import { describeError } from "@cascade/shared/errors";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { decodeSchemaMessage, type SchemaMessage } from "@cascade/shared/table-schema";
import { schemasTopic } from "@cascade/shared/topic";
import type { Admin, Consumer, KafkaMessage } from "kafkajs";
import { SchemaHistory } from "../schema-history.ts";

const DEADLINE_MS = 45_000;

/** Reads `<prefix>.schemas` to its end; empty where there is no such topic. Rejects with CascadeError. */
export async function readSchemaHistory(kafka: KafkaOptions, prefix: string): Promise<SchemaHistory> {
  const topic = schemasTopic(prefix);
  const sockets = new KafkaSockets();
  const client = kafkaClient(kafka, sockets);
  const admin = client.admin({ retry: KAFKA_RETRY });
  const consumer = wholeTopicConsumer(client, `${prefix}.schemas`, { maxWaitMs: 100 });
  try {
    const messages = await withDeadline(readAll(topic, admin, consumer), DEADLINE_MS, `read topic ${topic} to its end`);
    return new SchemaHistory(messages.flatMap((message) => decoded(message, topic, kafka)));
  } catch (error) {
    throw kafkaError(error, `read topic ${topic}`);
  } finally {
    await sockets.disconnect(consumer, admin);
  }
}

async function readAll(topic: string, admin: Admin, consumer: Consumer): Promise<readonly KafkaMessage[]> {
  await admin.connect();
  if (!(await admin.listTopics()).includes(topic)) return [];
  const messages: KafkaMessage[] = [];
  const whole = new WholeTopic(consumer, topic);
  await consumer.connect();
  await whole.read((message) => void messages.push(message));
  await whole.settled(admin);
  return messages;
}

function decoded({ key, value, offset }: KafkaMessage, topic: string, { logger }: KafkaOptions): SchemaMessage[] {
  if (value === null) return [];
  try {
    return [decodeSchemaMessage(key?.toString("utf8") ?? "", value.toString("utf8"))];
  } catch (error) {
    logger.warn({ topic, offset, reason: describeError(error) }, "skipped a message that is not a table schema");
    return [];
  }
}
