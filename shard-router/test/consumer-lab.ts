import { until } from "@cascade/local/wait.ts";
import { kafkaClient } from "@cascade/shared/kafka";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { type KafkaLab, kafkaLab, kafkaOptions } from "@cascade/shared/testing/kafka-lab";
import { CompressionTypes, type Message } from "kafkajs";
import { type EventBatch, type EventConsumer, type Partition, partitionKey } from "../src/event-consumer.ts";
import { type ConsumerOptions, openKafkaConsumer } from "../src/kafka/kafka-consumer.ts";

/** What the tests of the consumer share. */

const cleanups: (() => PromiseLike<unknown>)[] = [];
export const cleanUp = (cleanup: () => PromiseLike<unknown>): number => cleanups.push(cleanup);
/** For `afterEach` of every file that uses the lab: a hook of this module would be the first file's alone. */
export async function cleanUpAll(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export interface ConsumerLab extends KafkaLab {
  topic(table: string): string;
  /** Makes a table's topic with events at offsets 0 to count - 1 of each partition, in record batches of 100. */
  fill(table: string, count: number, options?: FillOptions): Promise<string>;
  send(topic: string, messages: Message[], compression?: CompressionTypes): Promise<void>;
  /** Deletes everything before `offset`, as retention does. */
  deleteBefore(topic: string, offset: number): Promise<void>;
}

interface FillOptions {
  readonly partitions?: number;
  readonly valueBytes?: number;
  readonly compression?: CompressionTypes;
}

export async function labOn(brokers: string): Promise<ConsumerLab> {
  const lab = await kafkaLab(brokers);
  const sockets = new KafkaSockets();
  const producer = kafkaClient(kafkaOptions(brokers), sockets).producer({ allowAutoTopicCreation: false });
  await producer.connect();
  cleanUp(async () => {
    await producer.disconnect();
    sockets.close();
    await lab[Symbol.asyncDispose]();
  });
  const topic = (table: string) => `${lab.prefix}.public.${table}`;
  const send = async (to: string, messages: Message[], compression = CompressionTypes.None) => {
    await producer.send({ topic: to, messages, compression });
  };
  const fill = async (table: string, count: number, options: FillOptions = {}) => {
    const { partitions = 1, valueBytes = 10, compression } = options;
    await lab.createTopic(topic(table), { partitions });
    for (let partition = 0; partition < partitions; partition++) {
      for (let from = 0; from < count; from += 100) {
        const messages = Array.from({ length: Math.min(100, count - from) }, (_, i) =>
          messageOf(from + i, valueBytes, partition),
        );
        await send(topic(table), messages, compression);
      }
    }
    return topic(table);
  };
  const deleteBefore = async (from: string, offset: number) => {
    // kafkajs's admin must have heard of the topic's leader.
    await lab.admin.fetchTopicOffsets(from);
    await lab.admin.deleteTopicRecords({ topic: from, partitions: [{ partition: 0, offset: String(offset) }] });
  };
  return { ...lab, topic, fill, send, deleteBefore };
}

export const messageOf = (id: number, valueBytes = 10, partition = 0): Message => ({
  key: `{"id":${id}}`,
  value: String(id).padEnd(valueBytes),
  partition,
});

/** Stands for a replica: remembers where each partition goes on. */
export class Progress {
  readonly #next = new Map<string, bigint>();
  readonly resume = async (partition: Partition) => this.#next.get(partitionKey(partition)) ?? null;
  set(topic: string, nextOffset: bigint, partition = 0): void {
    this.#next.set(partitionKey({ topic, partition }), nextOffset);
  }
  next(topic: string, partition = 0): bigint {
    return this.#next.get(partitionKey({ topic, partition })) ?? 0n;
  }
}

export interface OpenConsumer {
  readonly consumer: EventConsumer;
  readonly progress: Progress;
  /** `topic code` of each partition error, as they came. */
  readonly errors: string[];
}

export const limits = { maxBatchRows: 1_000, maxBatchBytes: 1_000_000, maxBufferedBytes: 4_000_000 };

export async function openConsumer(
  lab: Pick<KafkaLab, "kafka" | "prefix">,
  options: Partial<ConsumerOptions> & { readonly progress?: Progress } = {},
): Promise<OpenConsumer> {
  const { progress = new Progress(), ...rest } = options;
  const errors: string[] = [];
  const consumer = await openKafkaConsumer({
    kafka: lab.kafka,
    prefix: lab.prefix,
    groupId: `${lab.prefix}.replica`,
    identity: { replicaId: "one", sinceMs: 0 },
    matches: () => true,
    resume: progress.resume,
    limits,
    topicPollMs: 100,
    onPartitionError: ({ topic }, error) => void errors.push(`${topic} ${error.code}`),
    recheckMs: 100,
    ...rest,
  });
  cleanUp(() => consumer[Symbol.asyncDispose]());
  return { consumer, progress, errors };
}

export interface Reading {
  /** Those with events. */
  readonly batches: EventBatch[];
  /** `topic/partition nextOffset` of those without. */
  readonly ends: string[];
  /** Offsets delivered of a partition, in the order of delivery. */
  offsets(topic: string, partition?: number): number[];
  /** Resolves when the batches end: to what they rejected with, or null. */
  readonly ended: Promise<unknown>;
  stop(): Promise<unknown>;
}

/** Pulls in the background; what `onBatch` (by default: the replica moves on) returns is awaited before the next pull. */
export function read({ consumer, progress }: OpenConsumer, onBatch?: (batch: EventBatch) => unknown): Reading {
  const batches: EventBatch[] = [];
  const ends: string[] = [];
  const stop = new AbortController();
  const apply = ({ partition, nextOffset }: EventBatch) => progress.set(partition.topic, nextOffset, partition.partition);
  const pull = async () => {
    for await (const batch of consumer.batches(stop.signal)) {
      const { partition, nextOffset } = batch;
      if (batch.events.length === 0) {
        ends.push(`${partitionKey(partition)} ${nextOffset}`);
        continue;
      }
      batches.push(batch);
      await (onBatch ?? apply)(batch);
    }
    return null;
  };
  const ended = pull().catch((error: unknown) => error);
  const offsets = (topic: string, partition = 0) =>
    batches
      .filter((batch) => batch.partition.topic === topic && batch.partition.partition === partition)
      .flatMap(({ events }) => events.map(({ offset }) => Number(offset)));
  return {
    batches,
    ends,
    offsets,
    ended,
    stop: () => {
      stop.abort();
      return ended;
    },
  };
}

/** Waits for a fact; fails, naming it, when it does not come true. */
export async function see(fact: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
  if (!(await until(fact, withinMs, 10))) throw new Error(`not seen within ${withinMs} ms: ${fact}`);
}

export const upTo = (end: number, from = 0): number[] => Array.from({ length: end - from }, (_, i) => from + i);
