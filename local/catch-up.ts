import { compareReplica, isEqual, type TableComparison } from "./canonical-state.ts";

export interface CatchUpOptions {
  readonly mainUrl: string;
  readonly replicas: readonly { readonly name: string; readonly url: string }[];
  /** As `CDC_TABLES`; public.* when left out. */
  readonly tables?: string;
  /** Anything that changes while the pipeline moves: the comparison waits until it rests. */
  readonly progress?: () => Promise<string>;
  /** Given up after this long without any progress; 60 s when left out. */
  readonly stallMs?: number;
  readonly signal?: AbortSignal;
}

export interface CatchUp {
  readonly equal: boolean;
  readonly replicas: readonly ReplicaComparison[];
}

export interface ReplicaComparison {
  readonly name: string;
  readonly tables: readonly TableComparison[];
  /** Why it could not be compared; null when it was. */
  readonly problem: string | null;
}

/**
 * Main-db rests: waits until every replica has the same rows, and resolves with the last comparison of each when they do, when
 * nothing has moved for the stall time, or when the signal comes. Waits for facts alone: no time counts as caught up.
 */
export async function untilCaughtUp(options: CatchUpOptions): Promise<CatchUp> {
  const latest = new Map<string, ReplicaComparison>();
  let [counters, found] = ["", ""];
  let movedAt = performance.now();
  for (;;) {
    const countersNow = (await options.progress?.().catch(() => "")) ?? "";
    if (countersNow === counters || latest.size === 0) {
      for (const replica of options.replicas)
        if (!isWhole(latest.get(replica.name))) latest.set(replica.name, await compare(options, replica));
    }
    const replicas = [...latest.values()];
    const equal = replicas.every(isWhole);
    const foundNow = JSON.stringify(replicas);
    if (countersNow !== counters || foundNow !== found) movedAt = performance.now();
    const stalled = performance.now() - movedAt > (options.stallMs ?? 60_000);
    if (equal || stalled || options.signal?.aborted) return { equal, replicas };
    [counters, found] = [countersNow, foundNow];
    await Bun.sleep(100);
  }
}

const isWhole = (replica: ReplicaComparison | undefined): boolean =>
  replica !== undefined && replica.problem === null && replica.tables.every(isEqual);

async function compare(
  { mainUrl, tables }: CatchUpOptions,
  { name, url }: CatchUpOptions["replicas"][number],
): Promise<ReplicaComparison> {
  try {
    return { name, tables: await compareReplica(mainUrl, url, tables), problem: null };
  } catch (error) {
    return { name, tables: [], problem: error instanceof Error ? error.message : String(error) };
  }
}
