import { CascadeError } from "@cascade/shared/errors";
import { KAFKA_RETRY } from "@cascade/shared/kafka";
import { watermarks } from "@cascade/shared/kafka-watermarks";
import type { Admin, Kafka, Message, Producer, Transaction } from "kafkajs";

/**
 * Between two transactions that follow each other at once the coordinator asks for a pause: kafkajs waits the first of these times
 * (facts.md §3). As long as KAFKA_RETRY in all.
 */
const RETRY = { ...KAFKA_RETRY, retries: 12, initialRetryTime: 10 } as const;
/** What a killed cdc has left open hides what comes after it from readers until then, or until the next cdc opens. */
const TRANSACTION_TIMEOUT_MS = 15_000;
/** The end of a transaction is told to the partition's leader after the commit is answered: a few milliseconds later, as a rule. */
const READABLE_WITHIN_MS = 1_000;
const FIRST_LOOK_AFTER_MS = 2;
const MAX_LOOK_PAUSE_MS = 100;
const ATTEMPTS = 5;

/**
 * Writes what only the newest cdc may write: whoever opens one fences all that were opened under that id before, also what of theirs is
 * still on its way. Each write is a transaction of its own: Kafka checks it before anybody reads it.
 *
 * Kafka 4 forgets to tell a partition that a transaction was committed when the partition has no leader just then (KAFKA-20734, seen on
 * 4.3.0 after a broker was frozen): from there on nobody reads anything of that topic, this transaction included, until the producer's next
 * one ends there. So a write counts once it can be read, and is written again where it cannot.
 */
export class FencedProducer {
  readonly #producer: Producer;
  readonly #admin: Admin;

  /** @param admin connected before the first write */
  constructor(kafka: Kafka, admin: Admin, transactionalId: string) {
    this.#admin = admin;
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

  /**
   * Whatever former ones have left undecided in a compacted topic, by a transaction whose end the partition was never told, can be read from
   * here on: nothing of theirs comes to light later.
   */
  async takeOver(topic: string): Promise<void> {
    await this.send(topic, [{ key: "taken-over", value: null }]); // readers pass over what has no value
  }

  /** Resolves when all of them can be read, by everybody and for good; when it rejects none ever is, or all are. */
  async send(topic: string, messages: readonly Message[]): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      const transaction = await this.#producer.transaction();
      const offset = await sendIn(transaction, topic, messages);
      await transaction.commit();
      if (await this.#isReadable(topic, offset)) return;
    }
    throw unreadable(topic);
  }

  async #isReadable(topic: string, offset: bigint): Promise<boolean> {
    const giveUpAt = performance.now() + READABLE_WITHIN_MS;
    for (let pauseMs = FIRST_LOOK_AFTER_MS; ; pauseMs = Math.min(2 * pauseMs, MAX_LOOK_PAUSE_MS)) {
      // kafkajs asks for the end of what is committed: the "last stable offset".
      const { high } = await watermarks(this.#admin, { topic, partition: 0 });
      if (high > offset) return true;
      if (performance.now() > giveUpAt) return false;
      await Bun.sleep(pauseMs);
    }
  }

  async disconnect(): Promise<void> {
    await this.#producer.disconnect();
  }
}

/** Resolves to the first one's offset. */
async function sendIn(transaction: Transaction, topic: string, messages: readonly Message[]): Promise<bigint> {
  try {
    const [answer] = await transaction.send({ topic, acks: -1, messages: [...messages] });
    const offset = BigInt(answer?.baseOffset ?? -1);
    if (offset < 0n) throw unacknowledged(topic);
    return offset;
  } catch (error) {
    // Of a producer that is fenced, or cut off, there is nothing to abort: what went wrong is what is told.
    await transaction.abort().catch(() => undefined);
    throw error;
  }
}

/** A send that succeeds without a place in the log would be a change lost without a word. */
export function unacknowledged(topic: string): CascadeError {
  return new CascadeError({
    code: "KAFKA_UNAVAILABLE",
    verdict: "retry",
    message: `no broker has acknowledged what was published to topic ${topic}`,
    advice: "nothing to do: it is published again",
  });
}

/** A transaction is open in the topic that is not this producer's. */
function unreadable(topic: string): CascadeError {
  return new CascadeError({
    code: "KAFKA_TRANSACTION_HANGS",
    verdict: "retry",
    message: `what is committed to topic ${topic} cannot be read: an older transaction there was never ended (KAFKA-20734)`,
    advice:
      "find it with kafka-transactions.sh find-hanging, end it with kafka-transactions.sh abort; it is tried again for ever",
  });
}
