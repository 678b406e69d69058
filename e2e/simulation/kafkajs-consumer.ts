import { type Partition, partitionKey } from "@cascade/shard-router/src/event-consumer.ts";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import type { Admin, Consumer, EachBatchPayload } from "kafkajs";
import type { GroupContext, Joined } from "./group.ts";

const HEARTBEAT_MS = 500;
const EVENTS = {
  GROUP_JOIN: "join",
  CRASH: "crash",
  HEARTBEAT: "heartbeat",
  FETCH: "fetch",
  FETCH_START: "fetch-start",
  REQUEST: "request",
} as const;
type EventName = (typeof EVENTS)[keyof typeof EVENTS];
type EachBatch = (payload: EachBatchPayload) => Promise<void>;

/**
 * As much of kafkajs's consumer as the router uses, with its ways: a partition that was neither paused nor sought is read from the group's
 * committed offset; offsets are forgotten at every join; what was not resolved is fetched again; below the log's beginning it goes on there.
 */
class SimulatedConsumer {
  readonly events = EVENTS;
  readonly #context: GroupContext;
  readonly #listeners = new Map<EventName, ((event: { payload: unknown }) => void)[]>();
  readonly #topics = new Set<string>();
  readonly #paused = new Set<string>();
  #offsets = new Map<string, number>();
  readonly #seeks = new Map<string, number>();
  #memberId: string | null = null;
  #generation = 0;
  #assigned: readonly Partition[] = [];
  #running: { readonly eachBatch: EachBatch; over: boolean } | null = null;
  #beatAtMs = 0;
  #wake: (() => void) | null = null;
  #following: readonly (() => void)[] = [];
  #ended: Promise<void> = Promise.resolve();

  constructor(context: GroupContext) {
    this.#context = context;
  }

  on(name: EventName, listener: (event: { payload: unknown }) => void): () => void {
    const listeners = this.#listeners.get(name) ?? [];
    this.#listeners.set(name, [...listeners, listener]);
    return () => undefined;
  }

  #emit(name: EventName, payload: unknown): void {
    for (const listener of this.#listeners.get(name) ?? []) listener({ payload });
  }

  async connect(): Promise<void> {}

  async subscribe({ topics }: { readonly topics: readonly string[] }): Promise<void> {
    for (const topic of topics) this.#topics.add(topic);
  }

  async run({ eachBatch }: { readonly eachBatch: EachBatch }): Promise<void> {
    const running = { eachBatch, over: false };
    this.#running = running;
    await this.#join();
    this.#ended = this.#loop(running).catch((error: unknown) => this.#emit("crash", { error }));
  }

  async #join(): Promise<void> {
    const joined: Joined = await this.#context.group.join(this.#memberId, [...this.#topics]);
    this.#memberId = joined.memberId;
    this.#generation = joined.generation;
    this.#assigned = joined.partitions;
    this.#offsets = new Map();
    this.#beatAtMs = this.#context.scheduler.nowMs;
    for (const unfollow of this.#following) unfollow();
    const byTopic = Map.groupBy(joined.partitions, ({ topic }) => topic);
    this.#following = [...byTopic.keys()].map((topic) => this.#context.kafka.follow(topic, () => this.#wake?.()));
    const numbersOf = (partitions: readonly Partition[]) => partitions.map(({ partition }) => partition);
    const memberAssignment = Object.fromEntries([...byTopic].map(([topic, partitions]) => [topic, numbersOf(partitions)]));
    this.#emit("join", { memberId: joined.memberId, memberAssignment });
  }

  async #loop(running: { readonly eachBatch: EachBatch; over: boolean }): Promise<void> {
    const { scheduler } = this.#context;
    while (!running.over) {
      if (scheduler.nowMs - this.#beatAtMs > HEARTBEAT_MS && !(await this.#beat()) && !running.over) await this.#join();
      let isIdle = true;
      for (const partition of this.#assigned) {
        if (running.over || this.#paused.has(partitionKey(partition))) continue;
        if (await this.#fetch(partition, running)) isIdle = false;
      }
      if (!isIdle) continue;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        scheduler.after(HEARTBEAT_MS, scheduler.current, resolve);
      });
      this.#wake = null;
    }
  }

  /** False when it must join again. */
  async #beat(): Promise<boolean> {
    const { group, network } = this.#context;
    const answer = await this.#retried(() =>
      network.call("kafka", () => group.heartbeat(this.#memberId ?? "", this.#generation)),
    );
    this.#beatAtMs = this.#context.scheduler.nowMs;
    if (answer === "unknown") this.#memberId = null;
    if (answer === "ok") this.#emit("heartbeat", {});
    return answer === "ok";
  }

  /** kafkajs tries again by itself, for a while. */
  async #retried<T>(request: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await request();
      } catch (error) {
        if (tries === 4) throw error;
        await Bun.sleep(300 * tries);
      }
    }
  }

  async #fetch(from: Partition, running: { readonly eachBatch: EachBatch; over: boolean }): Promise<boolean> {
    const { kafka, group, network, scheduler } = this.#context;
    const { topic, partition } = from;
    const key = partitionKey(from);
    const offset = this.#offsets.get(key) ?? group.committed.get(key) ?? 0;
    if (!this.#offsets.has(key)) this.#offsets.set(key, offset);
    const seek = this.#seeks.get(key) ?? 0;
    const count = scheduler.random.between(1, 40);
    // An idle partition is not asked for over the network in vain: the brokers hold the request until there is something.
    if (kafka.end(topic, partition) <= offset && kafka.low(topic, partition) <= offset) return false;
    const { first, messages, high } = await this.#retried(() =>
      network.call("kafka", () => {
        const start = Math.max(offset, kafka.low(topic, partition));
        return { first: start, messages: kafka.read(topic, start, count, partition), high: kafka.end(topic, partition) };
      }),
    );
    this.#emit("fetch", {});
    const isAssigned = () => this.#assigned.some((one) => partitionKey(one) === key);
    const isStale = () => (this.#seeks.get(key) ?? 0) !== seek || this.#paused.has(key) || !isAssigned();
    if (messages.length === 0 || isStale() || running.over) return false;
    const last = first + messages.length - 1;
    const batch = {
      topic,
      partition,
      highWatermark: String(high),
      firstOffset: () => String(first),
      lastOffset: () => String(last),
      messages: messages.map(({ key, value, headers = {} }, at) => ({
        offset: String(first + at),
        key: key === null ? null : Buffer.from(key),
        value: value === null ? null : Buffer.from(value),
        headers,
      })),
    };
    const payload = {
      batch,
      resolveOffset: (resolved: string) => {
        if (!isStale()) this.#offsets.set(key, Number(resolved) + 1);
      },
      heartbeat: async () => void (await this.#beat()),
      isRunning: () => !running.over,
      isStale,
    };
    await running.eachBatch(payload as unknown as EachBatchPayload);
    return this.#offsets.get(key) !== offset;
  }

  pause(topics: readonly TopicPartitions[]): void {
    for (const key of keysOf(topics)) this.#paused.add(key);
  }

  resume(topics: readonly TopicPartitions[]): void {
    for (const key of keysOf(topics)) this.#paused.delete(key);
    this.#wake?.();
  }

  seek({ offset, ...partition }: Partition & { readonly offset: string }): void {
    const key = partitionKey(partition);
    this.#seeks.set(key, (this.#seeks.get(key) ?? 0) + 1);
    this.#offsets.set(key, Number(offset));
  }

  async commitOffsets(offsets: readonly (Partition & { readonly offset: string })[]): Promise<void> {
    const { group, network } = this.#context;
    await network.call("kafka", () => group.commit(this.#memberId ?? "", offsets));
  }

  async stop(): Promise<void> {
    if (this.#running === null) return;
    this.#running.over = true;
    this.#running = null;
    for (const unfollow of this.#following) unfollow();
    this.#wake?.();
    await this.#ended;
    const { group, network } = this.#context;
    const memberId = this.#memberId;
    if (memberId !== null) await network.call("kafka", () => group.leave(memberId)).catch(() => undefined);
    this.#memberId = null;
  }

  async disconnect(): Promise<void> {
    await this.stop();
  }
}

interface TopicPartitions {
  readonly topic: string;
  readonly partitions: readonly number[];
}

const keysOf = (topics: readonly TopicPartitions[]): readonly string[] =>
  topics.flatMap(({ topic, partitions }) => partitions.map((partition) => partitionKey({ topic, partition })));

/** What `openKafkaConsumer` would connect. */
export function connectConsumer(context: GroupContext) {
  const { kafka, network } = context;
  const admin = {
    listTopics: () => network.call("kafka", () => [...kafka.topics.keys()]),
    fetchOffsetsOfTopics: (topics: readonly string[]) =>
      network.call("kafka", () =>
        topics.map((topic) => ({
          topic,
          partitions: Array.from({ length: kafka.partitions(topic) }, (_, partition) => ({
            partition,
            high: String(kafka.end(topic, partition)),
            low: String(kafka.low(topic, partition)),
          })),
        })),
      ),
    describeGroups: async () => ({ groups: [] }),
    disconnect: async () => undefined,
  };
  return {
    admin: admin as unknown as Admin,
    consumer: new SimulatedConsumer(context) as unknown as Consumer,
    sockets: new KafkaSockets(),
  };
}
