import pg from "pg";

/** Something that is done over and over on main-db, over a new connection whenever one is lost. */
export interface Repeated {
  /** How often it was done, at least: a commit whose answer was lost is not counted. */
  count(): number;
  /** Ends it after what is in hand; resolves with the count. */
  stop(): Promise<number>;
}

/** `open` is called for each connection, and what it returns until the connection is lost; it resolves to whether anything was done. */
export function repeat(url: string, open: (client: pg.Client) => () => Promise<boolean>): Repeated {
  const stopping = new AbortController();
  let count = 0;
  const whileConnected = async (): Promise<void> => {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
    client.on("error", () => {});
    try {
      await client.connect();
      const act = open(client);
      while (!stopping.signal.aborted) if (await act()) count++;
    } finally {
      // A server that is frozen answers no goodbye.
      await Promise.race([client.end().catch(() => {}), Bun.sleep(500)]);
    }
  };
  const running = (async () => {
    while (!stopping.signal.aborted)
      await whileConnected().catch((error: unknown) => {
        if (!isConnectionLoss(error)) throw error;
        return Bun.sleep(50);
      });
  })();
  running.catch(() => {});
  return {
    count: () => count,
    stop: async () => {
      stopping.abort();
      await running;
      return count;
    },
  };
}

/** No SQLSTATE, or one of the classes for lost connections and servers that end. */
export function isConnectionLoss(error: unknown): boolean {
  const code = (error as { readonly code?: string }).code;
  return code === undefined || !/^[0-9A-Z]{5}$/.test(code) || /^(08|57)/.test(code);
}
