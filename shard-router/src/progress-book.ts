import { type Partition, partitionKey } from "./event-consumer.ts";
import type { Advance, Progress, Replica } from "./replica.ts";

/** What the replica is known to remember of each partition: read when a partition is given to this router, moved with each commit. */
export class ProgressBook {
  readonly #replica: Pick<Replica, "progress">;
  readonly #known = new Map<string, Progress | null>();

  constructor(replica: Pick<Replica, "progress">) {
    this.#replica = replica;
  }

  /** Reads it anew. Resolves to the offset to go on from, null from the beginning. */
  async resume(partition: Partition): Promise<bigint | null> {
    const progress = await this.#replica.progress(partition);
    this.#known.set(partitionKey(partition), progress);
    return progress?.nextOffset ?? null;
  }

  current(partition: Partition): Progress | null {
    const progress = this.#known.get(partitionKey(partition));
    if (progress === undefined)
      throw new Error(`progress of ${partition.topic}[${partition.partition}] was not read before its events`);
    return progress;
  }

  moved({ partition, to }: Advance): void {
    this.#known.set(partitionKey(partition), to);
  }
}
