import { runWorkload, type WorkloadProgress } from "@cascade/workload/workload";
import { reconnecting } from "./reconnecting.ts";

/** A workload that outlives main-db: it comes back with a new connection whenever one is lost. */
export interface Load {
  /** Row changes committed so far, at least: a commit whose answer was lost is not counted. */
  changes(): number;
  /** Ends it; resolves with `changes`. */
  stop(): Promise<number>;
}

export function startLoad(url: string, options: { readonly seed: number; readonly changesPerSecond: number }): Load {
  const stopping = new AbortController();
  const { signal } = stopping;
  let before = 0;
  let now = 0;
  const onProgress = ({ changes }: WorkloadProgress): void => {
    now = changes;
  };
  const running = reconnecting(url, signal, async (client, attempt) => {
    try {
      await runWorkload(client, { ...options, seed: options.seed + attempt, signal, onProgress });
    } finally {
      before += now;
      now = 0;
    }
  });
  return {
    changes: () => before + now,
    stop: async () => {
      stopping.abort();
      await running;
      return before;
    },
  };
}

/** Resolves when the load has committed this many more changes. */
export async function moreChanges(load: Load, count: number): Promise<void> {
  const enough = load.changes() + count;
  while (load.changes() < enough) await Bun.sleep(10);
}
