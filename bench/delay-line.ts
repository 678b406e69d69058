import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";

/** A way to a server of this machine on which every byte takes as long as on one to a distant server. */
export interface DelayLine extends AsyncDisposable {
  readonly port: number;
}

/** A server that does not read makes its sender wait, whatever is under way. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;
/** Timers have whole milliseconds and end a tenth of one late. */
const EARLY_MS = 0.05;

/**
 * Delays and nothing else: what is under way is not bounded, as it is in e2e's proxy, where so long a way would be a narrow one too, and what is
 * said without waiting for an answer arrives as close together as it was said.
 */
export async function openDelayLine(targetPort: number, roundTripMs: number): Promise<DelayLine> {
  const upMs = Math.floor(roundTripMs / 2);
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const target = dial({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true });
    for (const [socket, other] of [[client, target] as const, [target, client] as const]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        if (!socket.readableEnded) other.destroy(); // or what it said last is still under way, and its end behind that
      });
    }
    delay(client, target, upMs);
    delay(target, client, roundTripMs - upMs);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host: "127.0.0.1", exclusive: true }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** One direction of a connection: its bytes, and then its end. */
function delay(from: Socket, to: Socket, ms: number): void {
  const underWay: { readonly bytes: Buffer | null; readonly dueMs: number }[] = [];
  let timer: Timer | null = null;
  const pass = (): void => {
    timer = null;
    for (let next = underWay[0]; next !== undefined; next = underWay[0]) {
      const waitMs = next.dueMs - performance.now();
      if (waitMs > EARLY_MS) {
        timer = setTimeout(pass, waitMs);
        return;
      }
      underWay.shift();
      if (to.destroyed) continue;
      if (next.bytes === null) to.end();
      else to.write(next.bytes);
    }
    if (to.writableLength > MAX_UNREAD_BYTES) from.pause();
  };
  const take = (bytes: Buffer | null): void => {
    underWay.push({ bytes, dueMs: performance.now() + ms });
    if (timer === null) timer = setTimeout(pass, ms);
  };
  from.on("data", take);
  from.on("end", () => take(null));
  to.on("drain", () => from.resume());
}
