import { connect, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ISocketFactory } from "kafkajs";

/** What an operation still under way fails with; quiet in the log (kafka-log.ts). */
export const CLIENT_CLOSED = "this Kafka client is closed";

const KEEP_ALIVE_DELAY_MS = 60_000;
const DISCONNECT_DEADLINE_MS = 900;

/**
 * The connections of one kafkajs client. kafkajs has no way to give up: a send or a join that is under way reconnects after
 * `disconnect` and goes on for minutes, so that a service starting over would meet its own past in the log or in its group.
 */
export class KafkaSockets {
  readonly #open = new Set<Socket>();
  #closed = false;
  /** Called when a connection has ended that was not closed here: the broker, or its log, may be another one afterwards. */
  onLost: () => void = () => {};

  readonly factory: ISocketFactory = ({ host, port, ssl, onConnect }) => {
    if (this.#closed) throw new Error(CLIENT_CLOSED);
    const servername = isIP(host) === 0 ? { servername: host } : {};
    const socket = ssl ? connectTls({ host, port, ...servername, ...ssl }, onConnect) : connect({ host, port }, onConnect);
    socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (!this.#closed) this.onLost();
    });
    return socket;
  };

  /**
   * Closes in good order what was made from the client (a consumer leaves its group), and ends its connections. Quick even when the
   * broker hangs: kafkajs waits for its open requests, and nothing of them is wanted any more.
   */
  async disconnect(...clients: readonly { disconnect(): Promise<void> }[]): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, DISCONNECT_DEADLINE_MS);
    await Promise.race([Promise.allSettled(clients.map((client) => client.disconnect())), late]);
    clearTimeout(timer);
    this.close();
  }

  /** Ends every connection at once and refuses new ones: whatever is under way fails. */
  close(): void {
    this.#closed = true;
    for (const socket of this.#open) socket.destroy(new Error(CLIENT_CLOSED));
  }
}
