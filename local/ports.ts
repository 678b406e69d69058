import { createServer } from "node:net";

// Below every system's ephemeral range: a client that reconnects in a loop to a port of that range, while its server is
// down, can connect to itself and so take the port from the server.
const lowest = 15_000;
const highest = 29_999;

/** A port of the loopback interface that nothing listens on now. Another process may still be quicker: see `onFreePort`. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest + 1));
    if (await canListen(port)) return port;
  }
}

export class PortTakenError extends Error {
  override readonly name = "PortTakenError";
}

/** Calls `start` with a free port, and again with another when that one turned out to be taken. A wished port is not replaced. */
export async function onFreePort<T>(wished: number | undefined, start: (port: number) => Promise<T>): Promise<T> {
  if (wished !== undefined) return start(wished);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt === 5) throw error;
    }
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen({ port, host: "127.0.0.1", exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
