import { randomUUID } from "node:crypto";
import type { Admin, Consumer, Kafka, KafkaMessage } from "kafkajs";
import { KAFKA_RETRY } from "./kafka.ts";
import { watermarks } from "./kafka-watermarks.ts";
import { Signal } from "./signal.ts";

/**
 * A consumer that reads all of a topic. A group by itself, which never commits, and which Kafka forgets.
 * @param maxWaitMs how long the broker waits for something to send: a message is seen within this
 */
export function wholeTopicConsumer(kafka: Kafka, groupPrefix: string, { maxWaitMs }: { readonly maxWaitMs: number }): Consumer {
  return kafka.consumer({
    groupId: `${groupPrefix}.${randomUUID()}`,
    allowAutoTopicCreation: false,
    maxWaitTimeInMs: maxWaitMs,
    minBytes: 1,
    retry: { ...KAFKA_RETRY, restartOnFailure: async () => false },
  });
}

/** How far a topic of one partition has been read, from its beginning on. Rejects with whatever kafkajs does. */
export class WholeTopic {
  readonly #consumer: Consumer;
  readonly #topic: string;
  readonly #moved = new Signal();
  /** Everything before this offset has been read. */
  #position = 0n;
  #failure: unknown = null;

  constructor(consumer: Consumer, topic: string) {
    this.#consumer = consumer;
    this.#topic = topic;
    consumer.on(consumer.events.CRASH, ({ payload }) => this.fail(payload.error));
    // Unlike the handler's batches these include ranges where compaction or a transaction left nothing to handle.
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload }) => {
      this.#position = BigInt(payload.lastOffset) + 1n;
      this.#moved.notify();
    });
  }

  /** What has ended the reading; null while nothing has. */
  get failure(): unknown {
    return this.#failure;
  }

  fail(error: unknown): void {
    this.#failure ??= error;
    this.#moved.notify();
  }

  /** Goes on until the consumer is disconnected. */
  async read(take: (message: KafkaMessage) => void): Promise<void> {
    await this.#consumer.subscribe({ topics: [this.#topic], fromBeginning: true });
    await this.#consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) take(message);
      },
    });
  }

  /** Resolves when everything that is in the topic now has been read. Rejects with `failure`, or when Kafka cannot be asked. */
  async settled(admin: Admin): Promise<void> {
    const { low, high } = await watermarks(admin, { topic: this.#topic, partition: 0 });
    while (low < high && this.#position < high) {
      if (this.#failure !== null) throw this.#failure;
      await this.#moved.wait();
    }
  }

  /** Resolves when more has been read, or nothing will be; and when `wake` is called. */
  moved(): Promise<void> {
    return this.#moved.wait();
  }

  wake(): void {
    this.#moved.notify();
  }
}
