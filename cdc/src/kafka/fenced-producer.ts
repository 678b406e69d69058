import { KAFKA_RETRY } from "@cascade/shared/kafka";
import type { Kafka, Message, Producer, Transaction } from "kafkajs";

/**
 * Between two transactions that follow each other at once the coordinator asks for a pause: kafkajs waits the first of these times
 * (facts.md §3). As long as KAFKA_RETRY in all.
 */
const RETRY = { ...KAFKA_RETRY, retries: 12, initialRetryTime: 10 } as const;
/** What a killed cdc has left open hides what comes after it from readers until then, or until the next cdc opens. */
const TRANSACTION_TIMEOUT_MS = 15_000;

/**
 * Writes what only the newest cdc may write: whoever opens one fences all that were opened under that id before, also what of theirs is
 * still on its way. Each write is a transaction of its own: Kafka checks it before anybody reads it.
 */
export class FencedProducer {
  readonly #producer: Producer;

  constructor(kafka: Kafka, transactionalId: string) {
    this.#producer = kafka.producer({
      transactionalId,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      maxInFlightRequests: 1,
      idempotent: true,
      allowAutoTopicCreation: false,
      createPartitioner: () => () => 0,
      retry: RETRY,
    });
  }

  /** From here on every former one is fenced. */
  async connect(): Promise<void> {
    await this.#producer.connect();
    const transaction = await this.#producer.transaction(); // takes the id over
    await transaction.abort();
  }

  /** Resolves when all of them are durable; when it rejects none is, or all are. */
  async send(topic: string, messages: readonly Message[]): Promise<void> {
    const transaction = await this.#producer.transaction();
    await sendIn(transaction, topic, messages);
    await transaction.commit();
  }

  async disconnect(): Promise<void> {
    await this.#producer.disconnect();
  }
}

async function sendIn(transaction: Transaction, topic: string, messages: readonly Message[]): Promise<void> {
  try {
    await transaction.send({ topic, acks: -1, messages: [...messages] });
  } catch (error) {
    // Of a producer that is fenced, or cut off, there is nothing to abort: what went wrong is what is told.
    await transaction.abort().catch(() => undefined);
    throw error;
  }
}
