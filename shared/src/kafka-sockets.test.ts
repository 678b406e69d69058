import { expect, test } from "bun:test";
import { createServer, type Socket } from "node:net";
import { CLIENT_CLOSED, KafkaSockets } from "./kafka-sockets.ts";

/** A server that never answers. */
async function silentServer() {
  const accepted: Socket[] = [];
  const server = createServer((socket) => void accepted.push(socket.on("error", () => {})));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, accepted, [Symbol.dispose]: () => void server.close() };
}

type Ssl = Parameters<KafkaSockets["factory"]>[0]["ssl"];
// kafkajs passes undefined for no TLS, whatever its types say.
const noTls = undefined as unknown as Ssl;

async function opened(sockets: KafkaSockets, port: number): Promise<{ socket: Socket; failed: Promise<Error> }> {
  const { promise: connected, resolve } = Promise.withResolvers<void>();
  const socket = sockets.factory({ host: "127.0.0.1", port, ssl: noTls, onConnect: resolve });
  const failed = new Promise<Error>((fail) => socket.once("error", fail));
  await connected;
  return { socket, failed };
}

test("closing ends every connection with an error, and refuses new ones", async () => {
  using server = await silentServer();
  const sockets = new KafkaSockets();
  const open = [await opened(sockets, server.port), await opened(sockets, server.port)];
  sockets.close();
  for (const { failed, socket } of open) {
    expect((await failed).message).toBe(CLIENT_CLOSED);
    expect(socket.destroyed).toBe(true);
  }
  const again = () => sockets.factory({ host: "127.0.0.1", port: server.port, ssl: noTls, onConnect() {} });
  expect(again).toThrow(CLIENT_CLOSED);
});

test("a connection that is lost is told of, one that is closed here is not", async () => {
  using server = await silentServer();
  const sockets = new KafkaSockets();
  const { promise: lost, resolve } = Promise.withResolvers<void>();
  let times = 0;
  sockets.onLost = () => {
    times++;
    resolve();
  };
  const [first, second] = [await opened(sockets, server.port), await opened(sockets, server.port)];
  first.socket.destroy();
  await lost;
  sockets.close();
  await second.failed;
  await Bun.sleep(10);
  expect(times).toBe(1);
});

test("disconnecting lets the clients say goodbye first", async () => {
  using server = await silentServer();
  const sockets = new KafkaSockets();
  const { socket } = await opened(sockets, server.port);
  let openAtGoodbye = false;
  const client = {
    disconnect: async () => {
      openAtGoodbye = !socket.destroyed;
    },
  };
  await sockets.disconnect(client, { disconnect: () => Promise.reject(new Error("was not connected")) });
  expect([openAtGoodbye, socket.destroyed]).toEqual([true, true]);
});

test("disconnecting does not wait for a client that hangs", async () => {
  using server = await silentServer();
  const sockets = new KafkaSockets();
  const { socket } = await opened(sockets, server.port);
  const started = performance.now();
  await sockets.disconnect({ disconnect: () => new Promise(() => {}) });
  expect(performance.now() - started).toBeLessThan(3_000);
  expect(socket.destroyed).toBe(true);
});
