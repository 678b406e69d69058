import { describeError } from "@cascade/shared/errors";
import type { KafkaLogger } from "@cascade/shared/kafka-log";
import type { Consumer } from "kafkajs";
import { type Partition, partitionKey } from "../event-consumer.ts";

/** How often Kafka is told; its lag tools read no faster. */
const INTERVAL_MS = 1_000;

/** Tells Kafka how far the replica is, for its lag tools only: nothing is read from there, so a failure is no matter. */
export class OffsetReports {
  readonly #consumer: Consumer;
  readonly #logger: KafkaLogger;
  readonly #timer: Timer;
  #due = new Map<string, Partition & { readonly offset: string }>();

  constructor(consumer: Consumer, logger: KafkaLogger) {
    this.#consumer = consumer;
    this.#logger = logger;
    this.#timer = setInterval(() => void this.flush(), INTERVAL_MS);
  }

  add({ topic, partition }: Partition, nextOffset: bigint): void {
    this.#due.set(partitionKey({ topic, partition }), { topic, partition, offset: String(nextOffset) });
  }

  /** Forgets a partition that another router holds now. */
  drop(key: string): void {
    this.#due.delete(key);
  }

  async flush(): Promise<void> {
    if (this.#due.size === 0) return;
    const due = [...this.#due.values()];
    this.#due = new Map();
    try {
      await this.#consumer.commitOffsets(due);
    } catch (error) {
      this.#logger.debug({ reason: describeError(error) }, "could not report offsets to Kafka");
    }
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
