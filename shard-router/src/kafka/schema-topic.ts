import { CascadeError } from "@cascade/shared/errors";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { decodeSchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import { schemasTopic } from "@cascade/shared/topic";
import type { Admin, Consumer, EachBatchPayload } from "kafkajs";
import type { SchemaBook } from "../schema-book.ts";
import { Signal } from "./signal.ts";

export interface SchemaTopicOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** Of the replica; the reader's own group is named after it. */
  readonly groupId: string;
}

const CONNECT_DEADLINE_MS = 30_000;
/** cdc has published the schema before the row: whoever still waits for it after this waits for Kafka. */
const READ_DEADLINE_MS = 10_000;
const CLOSE_DEADLINE_MS = 900;
const MAX_WAIT_MS = 100;

/** Connects; the topic is read from its beginning when the first schema is asked for. Rejects with CascadeError when Kafka is away. */
export async function openSchemaTopic(options: SchemaTopicOptions): Promise<SchemaBook> {
  const kafka = kafkaClient(options.kafka);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const consumer = kafka.consumer({
    // kafkajs reads in groups only: one of our own, in which nothing is ever committed, so that Kafka forgets it with us.
    groupId: `${options.groupId}.schemas.${crypto.randomUUID()}`,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: MAX_WAIT_MS,
    minBytes: 1,
    retry: { ...KAFKA_RETRY, restartOnFailure: async () => false },
  });
  const topic = new SchemaTopic(options, admin, consumer);
  try {
    await withDeadline(Promise.all([admin.connect(), consumer.connect()]), CONNECT_DEADLINE_MS, "connect to Kafka");
    return topic;
  } catch (error) {
    await topic[Symbol.asyncDispose]();
    throw kafkaError(error, "connect to Kafka");
  }
}

class SchemaTopic implements SchemaBook {
  readonly #options: SchemaTopicOptions;
  readonly #admin: Admin;
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #schemas = new Map<string, TableSchema>();
  readonly #moved = new Signal();
  /** Everything before this offset was read. */
  #readUpTo = 0n;
  #reading: Promise<void> | null = null;
  #failure: CascadeError | null = null;

  constructor(options: SchemaTopicOptions, admin: Admin, consumer: Consumer) {
    this.#options = options;
    this.#admin = admin;
    this.#consumer = consumer;
    this.#topic = schemasTopic(options.prefix);
    consumer.on(consumer.events.CRASH, ({ payload }) => this.#fail(payload.error));
  }

  known(id: string): TableSchema | undefined {
    return this.#schemas.get(id);
  }

  async get(id: string): Promise<TableSchema> {
    const known = this.#schemas.get(id);
    if (known !== undefined) return known;
    await this.#readToEnd();
    const read = this.#schemas.get(id);
    if (read === undefined) throw unknownSchema(id, this.#topic);
    return read;
  }

  async #readToEnd(): Promise<void> {
    const end = await this.#end();
    if (end > 0n) {
      this.#reading ??= this.#startReading();
      await this.#reading;
    }
    const deadline = performance.now() + READ_DEADLINE_MS;
    while (this.#readUpTo < end) {
      if (this.#failure !== null) throw this.#failure;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw unread(this.#topic, this.#readUpTo, end);
      await this.#moved.wait(leftMs);
    }
  }

  /** 0 while there is no such topic: then nothing was published. */
  async #end(): Promise<bigint> {
    try {
      if (!(await this.#admin.listTopics()).includes(this.#topic)) return 0n;
      const offsets = await this.#admin.fetchTopicOffsets(this.#topic);
      return BigInt(offsets.find(({ partition }) => partition === 0)?.high ?? 0);
    } catch (error) {
      throw kafkaError(error, `read the offsets of topic ${this.#topic}`);
    }
  }

  async #startReading(): Promise<void> {
    try {
      await this.#consumer.subscribe({ topics: [this.#topic], fromBeginning: true });
      await this.#consumer.run({ autoCommit: false, eachBatch: async (payload) => this.#read(payload) });
    } catch (error) {
      throw this.#fail(error);
    }
  }

  #read({ batch }: EachBatchPayload): void {
    for (const { key, value, offset } of batch.messages) {
      if (key === null || value === null) continue;
      try {
        const schema = decodeSchemaMessage(key.toString("utf8"), value.toString("utf8"));
        this.#schemas.set(schema.id, schema);
      } catch {
        // Whatever row needs it says so and stops its table; the message's text may be anything, so it stays out of the log.
        this.#options.kafka.logger.warn({ topic: this.#topic, offset }, "a message is no table schema of Cascade: skipped");
      }
    }
    this.#readUpTo = BigInt(batch.lastOffset()) + 1n;
    this.#moved.notify();
  }

  #fail(error: unknown): CascadeError {
    this.#failure ??= kafkaError(error, `read topic ${this.#topic}`);
    this.#moved.notify();
    return this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.allSettled([this.#consumer.disconnect(), this.#admin.disconnect()]);
    await Promise.race([closed, Bun.sleep(CLOSE_DEADLINE_MS)]);
  }
}

function unknownSchema(id: string, topic: string): CascadeError {
  return new CascadeError({
    code: "UNKNOWN_SCHEMA",
    verdict: "stop-table",
    message: `a message names table schema ${id}, which is not in topic ${topic}`,
    advice: `find out who else writes to the table's topic, or who removed the schema: topic ${topic} must be compacted and never be deleted; the table goes on by itself once the schema is there`,
  });
}

function unread(topic: string, readUpTo: bigint, end: bigint): CascadeError {
  return new CascadeError({
    code: "KAFKA_UNAVAILABLE",
    verdict: "retry",
    message: `topic ${topic} was read up to offset ${readUpTo} of ${end} within ${READ_DEADLINE_MS / 1000} s`,
    advice: "check the brokers; it is tried again for ever with a fresh connection",
  });
}
