import { runWorkload } from "@cascade/local/workload.ts";
import { Client } from "pg";
import { isConnectionLoss } from "./reconnecting.ts";

/** A workload that outlives main-db: it comes back with a new connection whenever one is lost. */
export interface Load {
  /** Row changes committed so far, at least: a commit whose answer was lost is not counted. */
  changes(): number;
  /** Ends it; resolves with `changes`. */
  stop(): Promise<number>;
}

export function startLoad(url: string, options: { readonly seed: number; readonly changesPerSecond: number }): Load {
  const stopping = new AbortController();
  let before = 0;
  let now = 0;
  const runOnce = async (seed: number): Promise<void> => {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
    client.on("error", () => {});
    try {
      await client.connect();
      await runWorkload(client, {
        ...options,
        seed,
        signal: stopping.signal,
        onProgress: ({ changes }) => {
          now = changes;
        },
      });
    } finally {
      before += now;
      now = 0;
      // A server that is frozen answers no goodbye.
      await Promise.race([client.end().catch(() => {}), Bun.sleep(500)]);
    }
  };
  const running = (async () => {
    for (let seed = options.seed; !stopping.signal.aborted; seed += 1)
      await runOnce(seed).catch((error: unknown) => {
        if (!isConnectionLoss(error)) throw error;
        return Bun.sleep(50);
      });
  })();
  running.catch(() => {});
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
