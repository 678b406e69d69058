import { type ChangeEvent, SCHEMAS_FIRST_HEADER } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { EventWriter } from "@cascade/shared/event-writer";
import { byteLengthOf } from "@cascade/shared/json-bytes";
import {
  compressionType,
  idempotentProducer,
  KAFKA_RETRY,
  type KafkaCompression,
  type KafkaOptions,
  kafkaClient,
} from "@cascade/shared/kafka";
import { isKafkaError, kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { encodeSchemaNews, type SchemaMessage } from "@cascade/shared/table-schema";
import { compactedTopics, formatTableName, heartbeatTopic, schemasTopic, tableOfTopic } from "@cascade/shared/topic";
import type { EncodedRecords, Message, Producer } from "kafkajs";
import type { SourceHeartbeat } from "../change-source.ts";
import type { Announcement, EventPublisher } from "../event-publisher.ts";
import { SchemaNews } from "../schema-news.ts";
import { encodeRecords, recordHeaders } from "./event-records.ts";
import { FencedProducer, unacknowledged } from "./fenced-producer.ts";
import { placeEvents } from "./placing.ts";
import {
  MESSAGE_OVERHEAD_BYTES,
  type PartitionMessages,
  planRequests,
  type RecordBatch,
  type SizedMessage,
  type SizeLimits,
} from "./requests.ts";
import { Topics } from "./topics.ts";

export interface PublisherOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** Name of the captured database, for `source.db`. */
  readonly db: string;
  /** Names the pipeline in its heartbeats. */
  readonly slot: string;
  /** Of a table topic that is made (KAFKA_PARTITIONS). */
  readonly partitions: number;
  /** -1: the broker's default. */
  readonly replicationFactor: number;
  readonly compression: KafkaCompression;
  /** The active span's W3C traceparent, if any: becomes a header of every message published under it. */
  readonly traceparent?: () => string | null;
  /** No answer from Kafka for this long: the caller starts over with a fresh publisher. */
  readonly deadlineMs?: number;
}

/** Above what kafkajs needs to ride over a leader election or one hanging connection. */
const DEFAULT_DEADLINE_MS = 45_000;
const CHECK_DEADLINE_MS = 10_000;
/** A batch of CDC_BATCH_ROWS changes may be of as many tables. Where it is not, each request costs a round trip, so not too few. */
const MAX_REQUEST_PARTITIONS = 256;
/** A raised max.message.bytes reaches the partition's leader within this. */
const LIMIT_TAKES_EFFECT_MS = 5_000;
const SCHEMAS_FIRST = { [SCHEMAS_FIRST_HEADER]: "1" } as const;

/** What kafkajs is given of a batch. */
type Encode<M> = (batch: RecordBatch<M>) => EncodedRecords | Message[];

/** Connects and gets a producer id. Rejects with CascadeError when Kafka is away or refuses us. */
export async function openKafkaPublisher(options: PublisherOptions): Promise<EventPublisher> {
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options.kafka, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const producer = idempotentProducer(kafka);
  const announcer = new FencedProducer(kafka, admin, `${options.prefix}.cdc.schemas`);
  const topics = new Topics(admin, {
    ...options,
    compactedTopics: compactedTopics(options.prefix),
    isTableTopic: (topic) => tableOfTopic(options.prefix, topic) !== null,
    logger: options.kafka.logger,
  });
  const connect = async (): Promise<number> => {
    await Promise.all([admin.connect(), producer.connect(), announcer.connect()]);
    // Before anybody reads the history. A topic without anything is left so: that something was published is told by its end.
    const schemas = schemasTopic(options.prefix);
    if ((await topics.end(schemas)) > 0n) await announcer.takeOver(schemas);
    return topics.maxRequestBytes();
  };
  // A send given up on must not reach the log behind the back of the next publisher.
  const close = () => sockets.disconnect(producer, announcer, admin);
  try {
    const maxRequestBytes = await withDeadline(connect(), options.deadlineMs ?? DEFAULT_DEADLINE_MS, "connect to Kafka");
    return new KafkaPublisher(options, { producer, announcer, topics, maxRequestBytes, close });
  } catch (error) {
    await close();
    throw kafkaError(error, "connect to Kafka");
  }
}

interface Connected {
  readonly producer: Producer;
  /** Of schemas: the newest one of a table counts, so a cdc whose slot was taken over must not write there any more. */
  readonly announcer: FencedProducer;
  readonly topics: Topics;
  readonly maxRequestBytes: number;
  close(): Promise<void>;
}

class KafkaPublisher implements EventPublisher {
  readonly #options: PublisherOptions;
  readonly #kafka: Connected;
  readonly #writer: EventWriter;
  readonly #deadlineMs: number;
  readonly #news: SchemaNews;
  #failure: unknown = null;

  constructor(options: PublisherOptions, kafka: Connected) {
    this.#options = options;
    this.#kafka = kafka;
    this.#writer = new EventWriter(options.prefix, options.db);
    this.#news = new SchemaNews(options.prefix);
    this.#deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  }

  async check(): Promise<void> {
    await withDeadline(this.#kafka.topics.check(), CHECK_DEADLINE_MS, "reach the brokers");
  }

  /** The first thing that is ever published is a schema, and compaction keeps the end of its topic. */
  async hasPublished(): Promise<boolean> {
    return (await this.#kafka.topics.end(schemasTopic(this.#options.prefix))) > 0n;
  }

  recall(announced: Iterable<SchemaMessage>): void {
    this.#news.recall([...announced]);
    for (const [topic, partitions] of this.#news.divided()) this.#kafka.topics.recall(topic, partitions);
  }

  async announce(announcements: readonly Announcement[]): Promise<void> {
    const news = this.#news.news(announcements);
    if (news.length === 0) return;
    const topics = news.flatMap((item) => (item.kind === "schema" ? [item.topic] : []));
    await this.#once([schemasTopic(this.#options.prefix), ...topics], () =>
      this.#say(this.#news.messagesOf(news, this.#partitionsOf)),
    );
  }

  async #say(said: readonly SchemaMessage[]): Promise<void> {
    const topic = schemasTopic(this.#options.prefix);
    const messages = [{ topic, partition: 0, sized: said.map((message) => sized(encodeSchemaNews(message))) }];
    for (const request of planRequests(messages, this.#sizeLimits())) for (const batch of request) await this.#tell(batch);
  }

  readonly #partitionsOf = (topic: string): number => this.#kafka.topics.limits(topic).partitions;

  async #tell({ topic, messages }: RecordBatch<Message>): Promise<void> {
    const doing = `publish to topic ${topic}`;
    try {
      await withDeadline(this.#kafka.announcer.send(topic, messages), this.#deadlineMs, doing);
    } catch (error) {
      throw kafkaError(error, doing);
    }
  }

  async heartbeat({ commitLsn, committedAtMs }: SourceHeartbeat): Promise<void> {
    const { prefix, slot } = this.#options;
    const topic = heartbeatTopic(prefix);
    // By hand: JSON has no bigint.
    const value = `{"slot":${JSON.stringify(slot)},"commit_lsn":${commitLsn},"source_ts_ms":${committedAtMs},"ts_ms":${Date.now()}}`;
    const beat = sized({ key: JSON.stringify({ slot }), value });
    await this.#publish(
      new Set([topic]),
      () => [{ topic, partition: 0, sized: [beat] }],
      ({ messages }) => [...messages],
    );
  }

  /** Resolves to the bytes sent, before compression. */
  publish(events: readonly ChangeEvent[]): Promise<number> {
    const capturedAtMs = Date.now();
    const traceparent = this.#options.traceparent?.() ?? null;
    const headers = recordHeaders(traceparent === null ? {} : { traceparent });
    const headersBefore = recordHeaders({ ...(traceparent === null ? {} : { traceparent }), ...SCHEMAS_FIRST });
    const marked = new Set<ChangeEvent>();
    const bytesOf = (event: ChangeEvent, partition: number, count: number): number => {
      const isMarked = this.#news.marks.take(event.table.topic, partition, count);
      if (isMarked) marked.add(event);
      const keyBytes = event.key === null ? 0 : byteLengthOf(event.key);
      const headerBytes = (isMarked ? headersBefore : headers).length;
      return keyBytes + this.#writer.sizeOf(event, capturedAtMs) + headerBytes + MESSAGE_OVERHEAD_BYTES;
    };
    const { partitioning } = this.#news;
    const placed = () => placeEvents(events, { countOf: this.#partitionsOf, partitioning, bytesOf });
    const headersOf = (event: ChangeEvent) => (marked.has(event) ? headersBefore : headers);
    const encode = ({ messages, partition, bytes }: RecordBatch<ChangeEvent>): EncodedRecords =>
      encodeRecords(messages, {
        ...{ writer: this.#writer, partition, capturedAtMs, maxBytes: bytes },
        headersOf: marked.size === 0 ? () => headers : headersOf,
      });
    return this.#publish(new Set(events.map(({ table }) => table.topic)), placed, encode);
  }

  /** @param placed asked once the topics are there */
  #publish<M>(topics: ReadonlySet<string>, placed: () => readonly PartitionMessages<M>[], encode: Encode<M>): Promise<number> {
    return this.#once(topics, async () => {
      const redivided = this.#news.redivided(topics, this.#partitionsOf);
      if (redivided.length > 0) await this.#once([schemasTopic(this.#options.prefix)], () => this.#say(redivided));
      return this.#sendAll(placed(), encode);
    });
  }

  async #once<T>(topics: Iterable<string>, send: () => Promise<T>): Promise<T> {
    // kafkajs's sequence numbers are off after a failed send, and the broker could take what is new for a repetition and drop it.
    if (this.#failure !== null) throw this.#failure;
    try {
      await withDeadline(this.#kafka.topics.ensure(topics), this.#deadlineMs, "prepare the topics");
      return await send();
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  async #sendAll<M>(messages: readonly PartitionMessages<M>[], encode: Encode<M>): Promise<number> {
    const limits = this.#sizeLimits();
    let bytes = 0;
    // One request at a time: kafkajs would let a second one overtake the first when that is retried.
    for (const request of planRequests(messages, limits)) {
      const [first] = request;
      if (first && first.bytes > limits.maxBatchBytes(first.topic)) await this.#sendOversized(first, encode);
      else await this.#send(request, encode);
      for (const batch of request) bytes += batch.bytes;
    }
    return bytes;
  }

  /** A topic may allow more than its broker: cut to the smaller, or the broker drops the connection without a word. */
  #sizeLimits(): SizeLimits {
    const { topics, maxRequestBytes } = this.#kafka;
    const maxBatchBytes = (topic: string) => Math.min(topics.limits(topic).maxMessageBytes, maxRequestBytes);
    return { maxRequestBytes, maxBatchBytes, maxRequestPartitions: MAX_REQUEST_PARTITIONS };
  }

  async #send<M>(request: readonly RecordBatch<M>[], encode: Encode<M>): Promise<void> {
    const doing = `publish to ${request.length === 1 ? `topic ${request[0]?.topic}` : `${request.length} partitions`}`;
    const sent = this.#kafka.producer.sendBatch({
      acks: -1,
      compression: compressionType(this.#options.compression),
      topicMessages: request.map((batch) => ({ topic: batch.topic, messages: encode(batch) })),
    });
    let acknowledged: ReadonlySet<string>;
    try {
      const answers = await withDeadline(sent, this.#deadlineMs, doing);
      acknowledged = new Set(answers.map(({ topicName, partition }) => `${topicName}/${partition}`));
    } catch (error) {
      throw isKafkaError(error, "MESSAGE_TOO_LARGE") ? limitLowered(doing, error) : kafkaError(error, doing);
    }
    // A send that succeeds by forgetting a topic would be a change lost without a word.
    for (const { topic, partition } of request) if (!acknowledged.has(`${topic}/${partition}`)) throw unacknowledged(topic);
  }

  /** One message over its topic's limit: raises the limit, as nothing else gets the row to the replicas. */
  async #sendOversized<M>(batch: RecordBatch<M>, encode: Encode<M>): Promise<void> {
    const { topics, maxRequestBytes } = this.#kafka;
    if (batch.bytes > maxRequestBytes)
      throw this.#rowTooLarge(batch, `the brokers' socket.request.max.bytes of ${maxRequestBytes}`);
    try {
      await withDeadline(
        topics.raiseLimit(batch.topic, batch.bytes),
        this.#deadlineMs,
        `raise the limit of topic ${batch.topic}`,
      );
    } catch (error) {
      if (!(error instanceof CascadeError) || error.verdict !== "refuse") throw error;
      const limit = topics.limits(batch.topic).maxMessageBytes;
      throw this.#rowTooLarge(batch, `the topic's max.message.bytes of ${limit}, which cdc may not raise`, error);
    }
    this.#options.kafka.logger.warn(
      { topic: batch.topic, maxMessageBytes: batch.bytes },
      "raised max.message.bytes for a large row",
    );
    const giveUpAt = performance.now() + LIMIT_TAKES_EFFECT_MS;
    for (;;) {
      try {
        return await this.#send([batch], encode);
      } catch (error) {
        if (!isKafkaError(error, "MESSAGE_TOO_LARGE") || performance.now() > giveUpAt) throw error;
        await Bun.sleep(50);
      }
    }
  }

  #rowTooLarge(batch: Pick<RecordBatch<unknown>, "topic" | "bytes">, limit: string, cause?: unknown): CascadeError {
    const table = tableOfTopic(this.#options.prefix, batch.topic);
    return new CascadeError({
      code: "ROW_TOO_LARGE",
      verdict: "fatal",
      message: `a change of ${table ? `table ${formatTableName(table)}` : `topic ${batch.topic}`} takes ${batch.bytes} bytes, over ${limit}`,
      advice: `raise that limit to at least ${batch.bytes} (max.message.bytes on topic ${batch.topic}, and socket.request.max.bytes on every broker), or exclude the table (CDC_TABLES)`,
      cause,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kafka.close();
  }
}

function sized(message: Message & { readonly value: string }): SizedMessage<Message> {
  const keyBytes = message.key ? Buffer.byteLength(message.key) : 0;
  return { message, bytes: keyBytes + Buffer.byteLength(message.value) + MESSAGE_OVERHEAD_BYTES };
}

/** The plan kept to the limits read at the start: a fresh publisher reads them again. */
function limitLowered(doing: string, cause: unknown): CascadeError {
  return new CascadeError({
    code: "KAFKA_LIMIT_LOWERED",
    verdict: "retry",
    message: `cannot ${doing}: max.message.bytes was lowered meanwhile`,
    advice: "nothing to do: it is read again",
    cause,
  });
}
