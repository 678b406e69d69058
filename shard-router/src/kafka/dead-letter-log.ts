import { idempotentProducer, KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { isKafkaError, kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { formatLsn } from "@cascade/shared/lsn";
import { deadLettersTopic } from "@cascade/shared/topic";
import type { Admin, Message, Producer } from "kafkajs";
import type { DeadLetter, DeadLetterLog } from "../dead-letter.ts";

export interface DeadLetterLogOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** REPLICA_NAME. */
  readonly replica: string;
}

/** Below the session timeout of a group, in which a batch must be applied. */
const DEADLINE_MS = 20_000;
const MAX_REQUEST_BYTES = 8_000_000;
/** Its letters are the only copy of what the replica lacks once their own topic has forgotten them; and any row may be one. */
const TOPIC_SETTINGS = {
  "cleanup.policy": "delete",
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "max.message.bytes": "104857600",
};

/** Connects, and makes the topic when there is none. Rejects with CascadeError when Kafka is away or refuses us. */
export async function openDeadLetterLog({ kafka: options, prefix, replica }: DeadLetterLogOptions): Promise<DeadLetterLog> {
  const topic = deadLettersTopic(prefix, replica);
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const producer = idempotentProducer(kafka);
  const open = async () => {
    await Promise.all([admin.connect(), producer.connect()]);
    await ensureTopic(admin, topic);
    await admin.disconnect();
  };
  try {
    await withDeadline(open(), DEADLINE_MS, `open topic ${topic}`);
    return new KafkaDeadLetterLog(topic, producer, () => sockets.disconnect(producer));
  } catch (error) {
    await sockets.disconnect(producer, admin);
    throw kafkaError(error, `open topic ${topic}`);
  }
}

async function ensureTopic(admin: Admin, topic: string): Promise<void> {
  if ((await admin.listTopics()).includes(topic)) return;
  const configEntries = Object.entries(TOPIC_SETTINGS).map(([name, value]) => ({ name, value }));
  try {
    const made = { topic, numPartitions: 1, replicationFactor: -1, configEntries };
    await admin.createTopics({ topics: [made], waitForLeaders: false });
  } catch (error) {
    if (!isKafkaError(error, "TOPIC_ALREADY_EXISTS")) throw error;
  }
}

class KafkaDeadLetterLog implements DeadLetterLog {
  readonly #topic: string;
  readonly #producer: Producer;
  readonly #close: () => Promise<void>;
  #failure: unknown = null;

  constructor(topic: string, producer: Producer, close: () => Promise<void>) {
    this.#topic = topic;
    this.#producer = producer;
    this.#close = close;
  }

  async publish(letters: readonly DeadLetter[]): Promise<void> {
    // kafkajs's sequence numbers are off after a failed send: the next life has another producer.
    if (this.#failure !== null) throw this.#failure;
    try {
      for (const messages of requests(letters)) {
        const sent = this.#producer.send({ topic: this.#topic, acks: -1, messages });
        await withDeadline(sent, DEADLINE_MS, `write to topic ${this.#topic}`);
      }
    } catch (error) {
      this.#failure = kafkaError(error, `write to topic ${this.#topic}`);
      throw this.#failure;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

/** One in flight, each within what a broker takes; a larger letter goes alone. */
function* requests(letters: readonly DeadLetter[]): Generator<Message[]> {
  let messages: Message[] = [];
  let bytes = 0;
  for (const letter of letters) {
    const size = Buffer.byteLength(letter.event.value);
    if (messages.length > 0 && bytes + size > MAX_REQUEST_BYTES) {
      yield messages;
      messages = [];
      bytes = 0;
    }
    messages.push(letterMessage(letter));
    bytes += size;
  }
  if (messages.length > 0) yield messages;
}

/** The event as it came, and in headers of their own what else there is to say of it. */
export function letterMessage({ event, partition, position, cause }: DeadLetter): Message {
  return {
    key: event.key,
    value: event.value,
    headers: {
      ...(event.traceParent == null ? {} : { traceparent: event.traceParent }),
      "cascade.topic": partition.topic,
      "cascade.partition": String(partition.partition),
      "cascade.offset": String(event.offset),
      "cascade.commit_lsn": formatLsn(position.commitLsn),
      "cascade.ordinal": String(position.ordinal),
      "cascade.error.code": cause.code,
      "cascade.error.message": cause.message,
      "cascade.error.advice": cause.advice,
    },
  };
}
