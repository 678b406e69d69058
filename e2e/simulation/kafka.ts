import { CascadeError } from "@cascade/shared/errors";
import type { Scheduler } from "./scheduler.ts";

export interface LogMessage {
  readonly key: string | null;
  readonly value: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Log {
  readonly messages: LogMessage[];
  low: number;
}

/** The brokers: topics of partitions, each a log that only grows at its end and may be cut at its beginning. */
export class SimulatedKafka {
  readonly topics = new Map<string, readonly Log[]>();
  readonly #epochs = new Map<string, number>();
  readonly #scheduler: Scheduler;
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  create(topic: string, partitions = 1): void {
    if (!this.topics.has(topic))
      this.topics.set(
        topic,
        Array.from({ length: partitions }, () => ({ messages: [], low: 0 })),
      );
  }

  partitions(topic: string): number {
    return this.topics.get(topic)?.length ?? 0;
  }

  #log(topic: string, partition: number): Log | undefined {
    return this.topics.get(topic)?.[partition];
  }

  append(topic: string, messages: readonly LogMessage[], partition = 0): void {
    this.create(topic);
    const log = this.#log(topic, partition);
    if (log === undefined) throw new Error(`${topic} has no partition ${partition}`);
    log.messages.push(...messages);
    for (const listener of this.#listeners.get(topic) ?? []) listener();
  }

  /** As a transactional producer's id is taken over: what was opened before may write no more. */
  fence(topic: string): number {
    const epoch = (this.#epochs.get(topic) ?? 0) + 1;
    this.#epochs.set(topic, epoch);
    return epoch;
  }

  checkFence(topic: string, epoch: number): void {
    if (this.#epochs.get(topic) === epoch) return;
    throw new CascadeError({
      code: "KAFKA_ERROR",
      verdict: "retry",
      message: `another has taken over writing to ${topic}`,
      advice: "nothing to do: it is simulated",
    });
  }

  end(topic: string, partition = 0): number {
    return this.#log(topic, partition)?.messages.length ?? 0;
  }

  read(topic: string, from: number, count = Number.POSITIVE_INFINITY, partition = 0): readonly LogMessage[] {
    return this.#log(topic, partition)?.messages.slice(from, from + count) ?? [];
  }

  /** Retention: nothing before `low` can be read any more. */
  cut(topic: string, low: number, partition = 0): void {
    const log = this.#log(topic, partition);
    if (log !== undefined) log.low = Math.max(log.low, Math.min(low, log.messages.length));
  }

  low(topic: string, partition = 0): number {
    return this.#log(topic, partition)?.low ?? 0;
  }

  /** Calls `listener`, as the process that runs now, a while after something was written. Returns how to stop that. */
  follow(topic: string, listener: () => void): () => void {
    const host = this.#scheduler.current;
    const listeners = this.#listeners.get(topic) ?? new Set();
    this.#listeners.set(topic, listeners);
    const notify = () => void this.#scheduler.after(this.#scheduler.random.skewed(0.5, 200), host, listener);
    listeners.add(notify);
    return () => void listeners.delete(notify);
  }
}
