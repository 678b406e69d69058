import type { Partition } from "./event-consumer.ts";
import type { HeldKey, HoldChange } from "./held-keys.ts";
import type { Replica } from "./replica.ts";

export type HeldKeys = ReadonlyMap<string, HeldKey>;

interface Known {
  readonly partition: Partition;
  keys: HeldKeys;
  /** Grows with every step of this router's own: what was read before it says nothing any more. */
  version: number;
}

/**
 * Which keys of each partition are held back, by id: read with its progress, moved with each commit. Keys come by steps of progress alone,
 * and commands only take some away: so what is known is never too little, and where it is too much the commit is fenced.
 */
export class HeldBook {
  readonly #replica: Pick<Replica, "held">;
  readonly #known = new Map<string, Known>();

  constructor(replica: Pick<Replica, "held">) {
    this.#replica = replica;
  }

  /** Reads it anew; to be called after the progress was read: a step between the two then fails by that. */
  async resume(partition: Partition): Promise<void> {
    const held = await this.#replica.held(partition);
    const version = (this.#known.get(nameOf(partition))?.version ?? 0) + 1;
    this.#known.set(nameOf(partition), { partition, keys: byId(held), version });
  }

  current(partition: Partition): HeldKeys {
    return this.#known.get(nameOf(partition))?.keys ?? NONE;
  }

  moved(partition: Partition, changes: readonly HoldChange[] | undefined): void {
    const known = this.#known.get(nameOf(partition));
    if (known === undefined || changes === undefined || changes.length === 0) return;
    const keys = new Map(known.keys);
    for (const change of changes) {
      if (change.kind === "release") keys.delete(change.from.id);
      else if (change.kind === "hold") keys.set(change.key.id, change.key);
      else keys.set(change.to.id, change.to);
    }
    known.keys = keys;
    known.version++;
  }

  /** Takes note of what commands have released meanwhile. Costs nothing while nothing is held. */
  async refresh(): Promise<void> {
    for (const known of this.#known.values()) {
      if (known.keys.size === 0) continue;
      const { version } = known;
      const held = await this.#replica.held(known.partition);
      if (known.version === version) known.keys = byId(held);
    }
  }
}

const NONE: HeldKeys = new Map();

const byId = (held: readonly HeldKey[]): HeldKeys => new Map(held.map((key) => [key.id, key]));
const nameOf = ({ topic, partition }: Partition): string => `${topic}/${partition}`;
