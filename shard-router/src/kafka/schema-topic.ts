import { CascadeError, describeError } from "@cascade/shared/errors";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { decodeSchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import { schemasTopic, type TableName } from "@cascade/shared/topic";
import type { Admin, Consumer, KafkaMessage } from "kafkajs";
import type { SchemaBook } from "../schema-book.ts";
import { SchemaHistory } from "../schema-history.ts";

export interface SchemaTopicOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** The router's own group: `<prefix>.<REPLICA_NAME>`. */
  readonly groupId: string;
  /** How long `get` waits for what is in the topic to be read. */
  readonly waitMs?: number;
  /** Tables of these names may look otherwise now than they did. */
  readonly onNews?: (names: readonly TableName[]) => void;
}

const DEFAULT_WAIT_MS = 10_000;
const CONNECT_DEADLINE_MS = 30_000;
const JOIN_DEADLINE_MS = 900;

/** Connects and starts reading, without waiting for it. Rejects with CascadeError when Kafka is away or refuses us. */
export async function openSchemaTopic(options: SchemaTopicOptions): Promise<SchemaBook> {
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options.kafka, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  // Every process needs every schema. A table waits while its new one is read.
  const consumer = wholeTopicConsumer(kafka, `${options.groupId}.schemas`, { maxWaitMs: 500 });
  try {
    await withDeadline(Promise.all([admin.connect(), consumer.connect()]), CONNECT_DEADLINE_MS, "connect to Kafka");
  } catch (error) {
    await sockets.disconnect(consumer, admin);
    throw kafkaError(error, "connect to Kafka");
  }
  return new SchemaTopic(options, { admin, consumer, sockets });
}

interface Connected {
  readonly admin: Admin;
  readonly consumer: Consumer;
  readonly sockets: KafkaSockets;
}

class SchemaTopic implements SchemaBook {
  readonly history = new SchemaHistory();
  readonly #options: SchemaTopicOptions;
  readonly #kafka: Connected;
  readonly #topic: string;
  readonly #whole: WholeTopic;
  readonly #schemas = new Map<string, TableSchema>();
  /** Resolves to whether there is a topic to read; null once there was none. */
  #started: Promise<boolean> | null = null;
  #closed = false;

  constructor(options: SchemaTopicOptions, kafka: Connected) {
    this.#options = options;
    this.#kafka = kafka;
    this.#topic = schemasTopic(options.prefix);
    this.#whole = new WholeTopic(kafka.consumer, this.#topic);
    this.#start().catch(() => {}); // `get` says it
  }

  known(id: string): TableSchema | undefined {
    return this.#schemas.get(id);
  }

  async get(id: string): Promise<TableSchema> {
    const known = this.#schemas.get(id);
    if (known) return known;
    await this.settle();
    const schema = this.#schemas.get(id);
    if (!schema) throw unknownSchema(id, this.#topic);
    return schema;
  }

  settle(): Promise<void> {
    return withDeadline(this.#catchUp(), this.#options.waitMs ?? DEFAULT_WAIT_MS, `read topic ${this.#topic} to its end`);
  }

  /** Resolves when everything that is in the topic now has been read: cdc publishes a schema before the first row naming it. */
  async #catchUp(): Promise<void> {
    if (!(await this.#start())) return;
    try {
      await this.#whole.settled(this.#kafka.admin);
    } catch (error) {
      throw this.#error(error);
    }
  }

  /** Reads the topic from its beginning, once there is one. */
  #start(): Promise<boolean> {
    if (this.#whole.failure !== null) return Promise.reject(this.#error(this.#whole.failure));
    this.#started ??= this.#subscribe().catch((error: unknown) => {
      this.#whole.fail(error);
      throw this.#error(this.#whole.failure);
    });
    return this.#started;
  }

  async #subscribe(): Promise<boolean> {
    const topics = await this.#kafka.admin.listTopics();
    if (!topics.includes(this.#topic) || this.#closed) {
      this.#started = null;
      return false;
    }
    await this.#whole.read((message) => this.#learn(message));
    return true;
  }

  #learn({ key, value, offset }: KafkaMessage): void {
    // A tombstone: rows in the table topics may name the schema still.
    if (value === null) return;
    try {
      const message = decodeSchemaMessage(key?.toString("utf8") ?? "", value.toString("utf8"));
      if (message.kind === "schema") this.#schemas.set(message.schema.id, message.schema);
      const names = this.history.learn(message); // also where nobody wants to hear of them
      this.#options.onNews?.(names);
    } catch (error) {
      // Whoever needs it finds it missing, and only that table stops.
      const fields = { topic: this.#topic, offset, reason: describeError(error) };
      this.#options.kafka.logger.warn(fields, "skipped a message that is not a table schema");
    }
  }

  #error(error: unknown): CascadeError {
    return kafkaError(error, `read topic ${this.#topic}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { consumer, admin, sockets } = this.#kafka;
    // kafkajs would finish a join under way even after `disconnect`, and stay in the group.
    await Promise.race([Promise.allSettled([this.#started]), Bun.sleep(JOIN_DEADLINE_MS)]);
    await sockets.disconnect(consumer, admin);
    this.#whole.fail(new Error("closed"));
  }
}

function unknownSchema(id: string, topic: string): CascadeError {
  return new CascadeError({
    code: "UNKNOWN_SCHEMA",
    verdict: "stop-table",
    message: `a row names schema ${id}, which is not in topic ${topic}`,
    advice: `find out who deleted from ${topic}; fill the table of this replica again (a snapshot) when the schema does not come back`,
  });
}
