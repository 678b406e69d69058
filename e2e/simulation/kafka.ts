import { CascadeError } from "@cascade/shared/errors";
import type { Scheduler } from "./scheduler.ts";

export interface LogMessage {
  readonly key: string | null;
  readonly value: string | null;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The brokers: topics of one partition, each a log that only grows at its end and may be cut at its beginning. */
export class SimulatedKafka {
  readonly topics = new Map<string, { readonly messages: LogMessage[]; low: number }>();
  readonly #epochs = new Map<string, number>();
  readonly #scheduler: Scheduler;
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  create(topic: string): void {
    if (!this.topics.has(topic)) this.topics.set(topic, { messages: [], low: 0 });
  }

  append(topic: string, messages: readonly LogMessage[]): void {
    this.create(topic);
    this.topics.get(topic)?.messages.push(...messages);
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

  end(topic: string): number {
    return this.topics.get(topic)?.messages.length ?? 0;
  }

  read(topic: string, from: number, count = Number.POSITIVE_INFINITY): readonly LogMessage[] {
    return this.topics.get(topic)?.messages.slice(from, from + count) ?? [];
  }

  /** Retention: nothing before `low` can be read any more. */
  cut(topic: string, low: number): void {
    const log = this.topics.get(topic);
    if (log !== undefined) log.low = Math.max(log.low, Math.min(low, log.messages.length));
  }

  low(topic: string): number {
    return this.topics.get(topic)?.low ?? 0;
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
