import type { Partition } from "./event-consumer.ts";
import type { HeldKey, HoldChange } from "./held-keys.ts";
import type { RememberedTable, Replica } from "./replica.ts";

export type HeldKeys = ReadonlyMap<string, HeldKey>;

/**
 * Which keys are held back, by id: read with the progress of every partition, moved with each commit. Keys come by steps of progress alone,
 * and commands only take some away: so what is known is never too little, and where it is too much the commit is fenced. All of them are
 * known, for the changes of a table come by another topic once it has another name; see `sync`.
 */
export class HeldBook {
  readonly #replica: Pick<Replica, "held">;
  #keys: HeldKeys = new Map();
  /** Grows with every step of this router's own: what was read before it says nothing any more. */
  #version = 0;
  #reading: Promise<void> = Promise.resolve();
  /** That has not begun. */
  #next: Promise<void> | null = null;
  /** By oid: the revision of the table that its held keys were read with, or after. */
  readonly #revisions = new Map<number, number>();

  constructor(replica: Pick<Replica, "held">) {
    this.#replica = replica;
  }

  get all(): HeldKeys {
    return this.#keys;
  }

  /** Those that were held first in this partition. */
  current({ topic, partition }: Partition): readonly HeldKey[] {
    if (this.#keys.size === 0) return NONE;
    return [...this.#keys.values()].filter(({ partition: of }) => of.topic === topic && of.partition === partition);
  }

  /**
   * Reads it anew; to be called after the progress was read: a step between the two then fails by that. Read once for all who ask before it
   * begins: at the start each of thousands of partitions does.
   */
  reread(): Promise<void> {
    this.#next ??= this.#reading
      .catch(() => {}) // whoever asked for that has heard of it
      .then(() => {
        this.#next = null;
        this.#reading = this.#read();
        return this.#reading;
      });
    return this.#next;
  }

  async #read(): Promise<void> {
    for (;;) {
      const version = this.#version;
      const held = await this.#replica.held();
      if (this.#version !== version) continue;
      this.#keys = new Map(held.map((key) => [key.id, key]));
      return;
    }
  }

  /**
   * The table is known at this revision. It grows when the table gets another name, and then all that its former topics hold back is in
   * the replica already (fence.ts). Resolves to whether that had to be read.
   */
  async sync({ oid, revision }: Pick<RememberedTable, "oid" | "revision">): Promise<boolean> {
    if (this.#revisions.get(oid) === revision) return false;
    await this.reread();
    this.#revisions.set(oid, revision);
    return true;
  }

  moved(changes: readonly HoldChange[] | undefined): void {
    if (changes === undefined || changes.length === 0) return;
    const keys = new Map(this.#keys);
    for (const change of changes) {
      if (change.kind === "release") keys.delete(change.from.id);
      else if (change.kind === "hold") keys.set(change.key.id, change.key);
      else keys.set(change.to.id, change.to);
    }
    this.#keys = keys;
    this.#version++;
  }

  /** Takes note of what commands have released meanwhile. Costs nothing while nothing is held. */
  async refresh(): Promise<void> {
    if (this.#keys.size > 0) await this.reread();
  }
}

const NONE: readonly HeldKey[] = [];
