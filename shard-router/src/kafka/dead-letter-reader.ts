import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { parseLsn } from "@cascade/shared/lsn";
import { deadLettersTopic } from "@cascade/shared/topic";
import type { KafkaMessage } from "kafkajs";
import type { ReadLetter } from "../letter-pile.ts";

export interface DeadLetterReaderOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** REPLICA_NAME. */
  readonly replica: string;
}

const CONNECT_DEADLINE_MS = 20_000;

/** Every dead letter that is in the topic now, in the order they were written; none when there is no topic. Rejects with CascadeError. */
export async function readDeadLetters(
  { kafka: options, prefix, replica }: DeadLetterReaderOptions,
  take: (letter: ReadLetter) => void,
): Promise<void> {
  const topic = deadLettersTopic(prefix, replica);
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const consumer = wholeTopicConsumer(kafka, `${prefix}.${replica}.dead-letters`, { maxWaitMs: 100 });
  try {
    await withDeadline(Promise.all([admin.connect(), consumer.connect()]), CONNECT_DEADLINE_MS, "connect to Kafka");
    if (!(await admin.listTopics()).includes(topic)) return;
    const whole = new WholeTopic(consumer, topic);
    await whole.read((message) => {
      const letter = letterOf(message);
      if (letter !== null) take(letter);
    });
    await whole.settled(admin);
  } catch (error) {
    throw kafkaError(error, `read topic ${topic}`);
  } finally {
    await sockets.disconnect(consumer, admin);
  }
}

/** null: somebody else has written it. */
export function letterOf({ key, value, headers }: Pick<KafkaMessage, "key" | "value" | "headers">): ReadLetter | null {
  const header = (name: string): string => String(headers?.[name] ?? "");
  const [topic, partition, offset] = [header("cascade.topic"), header("cascade.partition"), header("cascade.offset")];
  const [lsn, ordinal] = [header("cascade.commit_lsn"), header("cascade.ordinal")];
  const areNumbers = [partition, offset, ordinal].every((text) => /^\d{1,18}$/.test(text));
  if (value === null || !areNumbers || !/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(lsn)) return null;
  return {
    partition: { topic, partition: Number(partition) },
    position: { commitLsn: parseLsn(lsn), ordinal: Number(ordinal) },
    event: { offset: BigInt(offset), key: key?.toString("utf8") ?? null, value: value.toString("utf8") },
  };
}
