import { describeError } from "@cascade/shared/errors";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { decodeSchemaMessage, type SchemaMessage } from "@cascade/shared/table-schema";
import { schemasTopic, type TableName, topicOf } from "@cascade/shared/topic";
import type { Admin, Consumer, KafkaMessage } from "kafkajs";
import { SchemaHistory } from "../schema-history.ts";

const DEADLINE_MS = 45_000;
const LOOKS = 3;
const LOOK_PAUSE_MS = 500;

/** What Kafka has of this pipeline's tables. */
export interface KnownTopics {
  /** Empty where there is no `<prefix>.schemas`. */
  readonly history: SchemaHistory;
  /** Tables that were announced, and whose topic is not there, by OID. */
  readonly lost: ReadonlyMap<number, TableName>;
}

/** Reads `<prefix>.schemas` to its end. Rejects with CascadeError. */
export async function readSchemaHistory(kafka: KafkaOptions, prefix: string): Promise<KnownTopics> {
  const topic = schemasTopic(prefix);
  const sockets = new KafkaSockets();
  const client = kafkaClient(kafka, sockets);
  const admin = client.admin({ retry: KAFKA_RETRY });
  // Within the names that cdc's right to read groups is for.
  const consumer = wholeTopicConsumer(client, `${prefix}.signals.schemas`, { maxWaitMs: 100 });
  try {
    const messages = await withDeadline(readAll(topic, admin, consumer), DEADLINE_MS, `read topic ${topic} to its end`);
    const history = new SchemaHistory(messages.flatMap((message) => decoded(message, topic, kafka)));
    return { history, lost: await withDeadline(lostOf(history, prefix, admin), DEADLINE_MS, "list the topics") };
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

/** A broker that has just started may not know all topics at first: what is lost is so at every look. */
async function lostOf(history: SchemaHistory, prefix: string, admin: Admin): Promise<ReadonlyMap<number, TableName>> {
  let lost = history.tables;
  for (let looks = 1; lost.length > 0; looks++) {
    const topics = new Set(await admin.listTopics());
    lost = lost.filter((schema) => !topics.has(topicOf(prefix, schema)));
    if (looks === LOOKS) break;
    if (lost.length > 0) await Bun.sleep(LOOK_PAUSE_MS);
  }
  return new Map(lost.map((schema) => [schema.oid, schema]));
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
