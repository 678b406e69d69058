import { CascadeError } from "@cascade/shared/errors";
import type { Position } from "@cascade/shared/lsn";
import type { TableName } from "@cascade/shared/topic";
import { type Partition, partitionKey } from "../event-consumer.ts";

/** The part of kafkajs's consumer that says which partitions are fetched, and from where. Throws while the consumer isn't running. */
export interface FetchControl {
  pause(topics: { readonly topic: string; readonly partitions: number[] }[]): void;
  resume(topics: { readonly topic: string; readonly partitions: number[] }[]): void;
  seek(place: { readonly topic: string; readonly partition: number; readonly offset: string }): void;
}

export interface StartPoint {
  readonly offset: bigint;
  /** Up to where the replica has applied: the message before `offset` is fetched too, and must not be after it. null: not to be checked. */
  readonly applied: Position | null;
}

export interface AssignmentOptions {
  readonly control: FetchControl;
  tableOf(topic: string): TableName;
  /**
   * Where a partition is to be read from, checked against what Kafka holds. `fetched`: up to there this consumer has read its log, null for
   * nothing yet. null: it is not to be read. Rejecting with verdict stop-table stops that partition only.
   */
  start(partition: Partition, fetched: bigint | null): Promise<StartPoint | null>;
  /** A partition cannot be read; asked again after `recheckMs`. */
  onPartitionError(partition: Partition, error: CascadeError): void;
  readonly recheckMs: number;
  onFailure(error: unknown): void;
  /** The partition is read from its offset now. */
  onReading(key: string): void;
  /** What was buffered of the partition is void. */
  onDropped(key: string): void;
}

/**
 * `locating`: paused until its offset is known and sought. `reading`: fetched. `held`: paused until its timer ends. `unread`: paused, for nothing
 * of it is this replica's.
 */
type ReadState = "locating" | "reading" | "held" | "unread";

export interface AssignedPartition {
  readonly key: string;
  readonly partition: Partition;
  readonly table: TableName;
  state: ReadState;
  /** The next offset to be fetched, while reading. */
  nextOffset: bigint;
  /** Of the log when it was fetched from last. */
  highWatermark: bigint | null;
  /** The position of the message before that, where it was fetched and is an event. */
  fetched: Position | null;
  /** The message before that is to be fetched again and checked first: it must not be after this. */
  applied: Position | null;
  /** So it is before anything more is taken: the log may be another one of that name. */
  suspected: boolean;
  /** Grows whenever the reading begins anew: what was fetched before is void. */
  epoch: number;
  timer: Timer | null;
}

/** The partitions this member of the group holds, and for each from where it is read. */
export class Assignment {
  readonly #options: AssignmentOptions;
  #partitions = new Map<string, AssignedPartition>();
  readonly #fetched = new Map<string, bigint>();
  #memberId: string | null = null;

  constructor(options: AssignmentOptions) {
    this.#options = options;
  }

  get(key: string): AssignedPartition | undefined {
    return this.#partitions.get(key);
  }

  list(): readonly AssignedPartition[] {
    return [...this.#partitions.values()];
  }

  /** Still held, and not begun anew since `epoch`. */
  isCurrent(assigned: AssignedPartition, epoch: number): boolean {
    return this.#partitions.get(assigned.key) === assigned && assigned.epoch === epoch;
  }

  /**
   * The group gave out its partitions. Must be called within kafkajs's GROUP_JOIN event: the next thing kafkajs does is fetch, and from
   * its own idea of an offset wherever we have neither paused nor sought.
   */
  joined(memberId: string, partitions: readonly Partition[]): void {
    // A new member id: this member was thought dead, and another may have read and applied meanwhile.
    if (memberId !== this.#memberId) this.clear();
    this.#memberId = memberId;
    const before = this.#partitions;
    this.#partitions = new Map();
    for (const partition of partitions) {
      const key = partitionKey(partition);
      const assigned = before.get(key);
      before.delete(key);
      if (assigned) this.#keep(assigned);
      else this.#begin(key, partition);
    }
    for (const lost of before.values()) this.#stop(lost);
  }

  /** Holds nothing any more: left the group. */
  clear(): void {
    const lost = this.#partitions;
    this.#partitions = new Map();
    this.#memberId = null;
    for (const assigned of lost.values()) this.#stop(assigned);
  }

  /** A broker may have come back with another log: what was fetched last is to be there when the next is. */
  doubt(): void {
    for (const assigned of this.#partitions.values()) this.lookBack(assigned);
  }

  /** The logs may be others: a partition is looked at when something comes of it, for there may be thousands that are idle. */
  suspect(): void {
    for (const assigned of this.#partitions.values()) assigned.suspected = true;
  }

  /** Reads from the message before the next one on, where it is known what that is to be. Whether it does. */
  lookBack(assigned: AssignedPartition): boolean {
    assigned.suspected = false;
    if (assigned.state !== "reading" || assigned.applied !== null || assigned.fetched === null) return false;
    assigned.applied = assigned.fetched;
    this.#controlled(() => this.#seek(assigned));
    return true;
  }

  /** Drops what was read ahead, and reads again from `startOffset` after `delayMs`. */
  hold(assigned: AssignedPartition, delayMs: number): void {
    this.#stop(assigned);
    assigned.state = "held";
    this.#pause(assigned);
    assigned.timer = setTimeout(() => void this.#locate(assigned), delayMs);
  }

  /** The partition cannot be read: says so, and looks again later. */
  reject(assigned: AssignedPartition, error: CascadeError, delayMs = this.#options.recheckMs): void {
    this.#options.onPartitionError(assigned.partition, error);
    this.hold(assigned, delayMs);
  }

  #keep(assigned: AssignedPartition): void {
    this.#partitions.set(assigned.key, assigned);
    // kafkajs forgets its offsets at every join, and what is queued here goes up to nextOffset.
    if (assigned.state === "reading") this.#controlled(() => this.#seek(assigned));
    else this.#pause(assigned);
  }

  #begin(key: string, partition: Partition): void {
    const table = this.#options.tableOf(partition.topic);
    const assigned: AssignedPartition = {
      key,
      partition,
      table,
      state: "locating",
      nextOffset: 0n,
      highWatermark: null,
      fetched: null,
      applied: null,
      suspected: false,
      epoch: 0,
      timer: null,
    };
    this.#partitions.set(key, assigned);
    this.#pause(assigned);
    void this.#locate(assigned);
  }

  async #locate(assigned: AssignedPartition): Promise<void> {
    const epoch = ++assigned.epoch;
    assigned.state = "locating";
    assigned.timer = null;
    const { partition } = assigned;
    try {
      const start = await this.#options.start(partition, this.#fetched.get(assigned.key) ?? null);
      if (!this.isCurrent(assigned, epoch)) return;
      if (start === null) {
        assigned.state = "unread";
        return;
      }
      const { offset, applied } = start;
      assigned.nextOffset = offset;
      assigned.fetched = null;
      assigned.applied = applied;
      assigned.state = "reading";
      this.#seek(assigned);
      this.#options.control.resume([{ topic: partition.topic, partitions: [partition.partition] }]);
      this.#options.onReading(assigned.key);
    } catch (error) {
      if (!this.isCurrent(assigned, epoch)) return;
      if (error instanceof CascadeError && error.verdict === "stop-table") this.reject(assigned, error);
      else this.#options.onFailure(error);
    }
  }

  #seek({ partition, nextOffset, applied }: AssignedPartition): void {
    this.#options.control.seek({ ...partition, offset: String(applied === null ? nextOffset : nextOffset - 1n) });
  }

  #pause({ partition }: AssignedPartition): void {
    this.#controlled(() => this.#options.control.pause([{ topic: partition.topic, partitions: [partition.partition] }]));
  }

  #controlled(work: () => void): void {
    try {
      work();
    } catch (error) {
      // kafkajs has just stopped by itself.
      this.#options.onFailure(error);
    }
  }

  #stop(assigned: AssignedPartition): void {
    const { key, state, applied, nextOffset } = assigned;
    if (state === "reading" && applied === null) this.#fetched.set(key, nextOffset);
    assigned.epoch++;
    if (assigned.timer) clearTimeout(assigned.timer);
    assigned.timer = null;
    this.#options.onDropped(key);
  }
}
