import { FewAtOnce } from "@cascade/shared/few-at-once";
import { idempotentProducer, KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { compactedTopics, signalsTopic } from "@cascade/shared/topic";
import type { Admin, Consumer, Kafka, Message } from "kafkajs";
import type { SignalLog, SignalMessage } from "../snapshot/signal-log.ts";
import { FencedProducer } from "./fenced-producer.ts";
import { Topics } from "./topics.ts";

export interface SignalsOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** -1: the broker's default. */
  readonly replicationFactor: number;
  /** `cdc`: what it writes there is its state, and every former cdc of this prefix is fenced. */
  readonly writer: "cdc" | "anybody";
}

const DEADLINE_MS = 45_000;
/** A request is read within this. */
const MAX_WAIT_MS = 500;

/** Connects, makes the topic where it is missing, and reads it to its end. Rejects with CascadeError. */
export async function openSignals(options: SignalsOptions): Promise<SignalLog> {
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options.kafka, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const producer =
    options.writer === "cdc" ? new FencedProducer(kafka, admin, `${options.prefix}.cdc.signals`) : plainProducer(kafka);
  const consumer = wholeTopicConsumer(kafka, `${options.prefix}.signals`, { maxWaitMs: MAX_WAIT_MS });
  const signals = new Signals(options, { admin, producer, consumer, sockets });
  try {
    await withDeadline(signals.open(), DEADLINE_MS, `read topic ${signalsTopic(options.prefix)} to its end`);
    return signals;
  } catch (error) {
    await signals[Symbol.asyncDispose]();
    throw kafkaError(error, `read topic ${signalsTopic(options.prefix)}`);
  }
}

type SignalProducer = Pick<FencedProducer, "connect" | "takeOver" | "send" | "disconnect">;

function plainProducer(kafka: Kafka): SignalProducer {
  const producer = idempotentProducer(kafka);
  return {
    connect: () => producer.connect(),
    takeOver: async () => undefined,
    send: async (topic, messages: readonly Message[]) => void (await producer.send({ topic, acks: -1, messages: [...messages] })),
    disconnect: () => producer.disconnect(),
  };
}

interface Clients {
  readonly admin: Admin;
  readonly producer: SignalProducer;
  readonly consumer: Consumer;
  readonly sockets: KafkaSockets;
}

class Signals implements SignalLog {
  readonly #options: SignalsOptions;
  readonly #clients: Clients;
  readonly #topic: string;
  readonly messages = new Map<string, string>();
  #opened = false;
  #news: SignalMessage[] = [];
  readonly #whole: WholeTopic;
  readonly #turns = new FewAtOnce(1);

  constructor(options: SignalsOptions, clients: Clients) {
    this.#options = options;
    this.#clients = clients;
    this.#topic = signalsTopic(options.prefix);
    this.#whole = new WholeTopic(clients.consumer, this.#topic);
  }

  async open(): Promise<void> {
    const { admin, producer, consumer } = this.#clients;
    const { prefix, replicationFactor, kafka } = this.#options;
    await Promise.all([admin.connect(), producer.connect(), consumer.connect()]);
    const settings = { compactedTopics: compactedTopics(prefix), isTableTopic: () => false, partitions: 1 };
    await new Topics(admin, { ...settings, replicationFactor, logger: kafka.logger }).ensure([this.#topic]);
    await producer.takeOver(this.#topic);
    await this.#whole.read(({ key, value }) => this.#take(key?.toString("utf8") ?? "", value?.toString("utf8") ?? null));
    await this.#whole.settled(admin);
    this.#opened = true;
  }

  #take(key: string, value: string | null): void {
    if (this.#opened) this.#news.push({ key, value });
    else if (value === null) this.messages.delete(key);
    else this.messages.set(key, value);
  }

  async next(signal: AbortSignal): Promise<readonly SignalMessage[]> {
    const wake = () => this.#whole.wake();
    signal.addEventListener("abort", wake);
    try {
      while (this.#news.length === 0 && !signal.aborted) {
        if (this.#whole.failure !== null) throw kafkaError(this.#whole.failure, `read topic ${this.#topic}`);
        await this.#whole.moved();
      }
      return this.#news.splice(0);
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  /** One request at a time, in the order of the calls. */
  write(messages: readonly SignalMessage[]): Promise<void> {
    return this.#turns.run(() => this.#write(messages));
  }

  async #write(messages: readonly SignalMessage[]): Promise<void> {
    const sent = this.#clients.producer.send(this.#topic, [...messages]);
    try {
      await withDeadline(sent, DEADLINE_MS, `write to topic ${this.#topic}`);
    } catch (error) {
      throw kafkaError(error, `write to topic ${this.#topic}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { admin, producer, consumer, sockets } = this.#clients;
    await sockets.disconnect(consumer, producer, admin);
  }
}
