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
  const running = reconnecting(url, stopping.signal, async (client) => {
    const act = open(client);
    while (!stopping.signal.aborted) if (await act()) count++;
  });
  return {
    count: () => count,
    stop: async () => {
      stopping.abort();
      await running;
      return count;
    },
  };
}

/** Does the work with a connection, and again with a new one whenever it is lost, or the work done, until `signal` aborts. */
export function reconnecting(
  url: string,
  signal: AbortSignal,
  work: (client: pg.Client, attempt: number) => Promise<unknown>,
): Promise<void> {
  const running = (async () => {
    for (let attempt = 0; !signal.aborted; attempt++)
      await connected(url, (client) => work(client, attempt)).catch((error: unknown) => {
        if (!isConnectionLoss(error)) throw error;
        return Bun.sleep(50);
      });
  })();
  running.catch(() => {}); // whoever waits for the end is told
  return running;
}

async function connected(url: string, work: (client: pg.Client) => Promise<unknown>): Promise<unknown> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return await work(client);
  } finally {
    // A server that is frozen answers no goodbye.
    await Promise.race([client.end().catch(() => {}), Bun.sleep(500)]);
  }
}

/** No SQLSTATE, or one of the classes for lost connections and servers that end. */
function isConnectionLoss(error: unknown): boolean {
  const code = (error as { readonly code?: string }).code;
  return code === undefined || !/^[0-9A-Z]{5}$/.test(code) || /^(08|57)/.test(code);
}
