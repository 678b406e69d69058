import { type Partition, partitionKey } from "@cascade/shard-router/src/event-consumer.ts";
import type { SimulatedKafka } from "./kafka.ts";
import type { Network } from "./network.ts";
import type { Host, Scheduler } from "./scheduler.ts";

const SESSION_TIMEOUT_MS = 15_000;
const REBALANCE_TIMEOUT_MS = 10_000;

export interface Joined {
  readonly memberId: string;
  readonly generation: number;
  readonly partitions: readonly Partition[];
}

interface Member {
  readonly id: string;
  readonly host: Host;
  readonly topics: readonly string[];
  heardAtMs: number;
  /** Tells a member that has joined what it is given. */
  answer: ((joined: Joined) => void) | null;
}

/** The coordinator of one consumer group: who is in it, and which partitions each has. */
export class SimulatedGroup {
  readonly #scheduler: Scheduler;
  readonly #network: Network;
  readonly #kafka: SimulatedKafka;
  /** By partition. */
  readonly committed = new Map<string, number>();
  #members = new Map<string, Member>();
  #generation = 0;
  #isRebalancing = false;
  #ids = 0;

  constructor(scheduler: Scheduler, network: Network, kafka: SimulatedKafka) {
    this.#scheduler = scheduler;
    this.#network = network;
    this.#kafka = kafka;
    this.#watch();
  }

  #watch(): void {
    const { nowMs } = this.#scheduler;
    for (const { id, heardAtMs, answer } of this.#members.values())
      if (answer === null && nowMs - heardAtMs > SESSION_TIMEOUT_MS) this.leave(id);
    if (this.#members.size > 0 && this.#network.strikes("rebalance", 0.1)) this.#rebalance();
    this.#scheduler.after(1_000, null, () => this.#watch());
  }

  /** Resolves, as the process that asks, once everybody has joined, or was given up. */
  join(memberId: string | null, topics: readonly string[]): Promise<Joined> {
    const host = this.#scheduler.current as Host;
    const latencyMs = () => this.#network.latencyMs();
    return new Promise((resolve) => {
      const answer = (joined: Joined) => void this.#scheduler.after(latencyMs(), host, () => resolve(joined));
      this.#scheduler.after(latencyMs(), null, () => {
        const id = memberId !== null && this.#members.has(memberId) ? memberId : `member-${++this.#ids}`;
        this.#members.set(id, { id, host, topics, heardAtMs: this.#scheduler.nowMs, answer });
        this.#rebalance();
        this.#settle();
      });
    });
  }

  heartbeat(memberId: string, generation: number): "ok" | "rebalance" | "unknown" {
    const member = this.#members.get(memberId);
    if (member === undefined) return "unknown";
    member.heardAtMs = this.#scheduler.nowMs;
    return this.#isRebalancing || generation !== this.#generation ? "rebalance" : "ok";
  }

  leave(memberId: string): void {
    if (!this.#members.delete(memberId)) return;
    this.#rebalance();
    this.#settle();
  }

  #rebalance(): void {
    if (this.#isRebalancing) return;
    this.#isRebalancing = true;
    const generation = this.#generation;
    this.#scheduler.after(REBALANCE_TIMEOUT_MS, null, () => {
      if (!this.#isRebalancing || generation !== this.#generation) return;
      for (const { id, answer } of this.#members.values()) if (answer === null) this.#members.delete(id);
      this.#settle();
    });
  }

  #settle(): void {
    const members = [...this.#members.values()];
    if (!this.#isRebalancing || members.some(({ answer }) => answer === null)) return;
    this.#isRebalancing = false;
    const generation = ++this.#generation;
    const topics = [...new Set(members.flatMap((member) => member.topics))].sort();
    const given = new Map<string, Partition[]>(members.map(({ id }) => [id, []]));
    const partitions = topics.flatMap((topic) =>
      Array.from({ length: this.#kafka.partitions(topic) }, (_, partition) => ({ topic, partition })),
    );
    partitions.forEach((partition, at) => {
      const takers = members.filter((member) => member.topics.includes(partition.topic));
      given.get(takers[(at + generation) % takers.length]?.id ?? "")?.push(partition);
    });
    for (const member of members) {
      member.answer?.({ memberId: member.id, generation, partitions: given.get(member.id) ?? [] });
      member.answer = null;
      member.heardAtMs = this.#scheduler.nowMs;
    }
  }

  commit(memberId: string, offsets: readonly (Partition & { readonly offset: string })[]): void {
    if (!this.#members.has(memberId)) throw new Error("not a member");
    for (const { offset, ...partition } of offsets) this.committed.set(partitionKey(partition), Number(offset));
  }
}

export interface GroupContext {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly kafka: SimulatedKafka;
  readonly group: SimulatedGroup;
}
