import { afterEach, expect, test } from "bun:test";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { until } from "@cascade/local/wait.ts";
import { openTcpProxy, type TcpProxy } from "./tcp-proxy.ts";

/** The proxy between a client and a server that answers every message with itself. */

interface Echo {
  readonly server: Server;
  readonly port: number;
  readonly heard: { bytes: number };
}

async function echoServer(): Promise<Echo> {
  const heard = { bytes: 0 };
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      heard.bytes += bytes.length;
      socket.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  const address = server.address();
  return { server, heard, port: typeof address === "object" && address !== null ? address.port : 0 };
}

interface Caller {
  readonly socket: Socket;
  readonly heard: { bytes: number };
  /** The code of the error it ended with, "" for a plain end, null while it is open. */
  ended(): string | null;
}

async function call(port: number): Promise<Caller> {
  const socket = dial({ port, host: "127.0.0.1" });
  const heard = { bytes: 0 };
  let ended: string | null = null;
  socket.on("data", (bytes) => {
    heard.bytes += bytes.length;
  });
  socket.on("error", (error: Error & { readonly code?: string }) => {
    ended ??= error.code ?? error.message;
  });
  socket.on("close", () => {
    ended ??= "";
  });
  await new Promise<void>((resolve) => {
    socket.once("connect", () => resolve());
    socket.once("error", () => resolve());
  });
  return { socket, heard, ended: () => ended };
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

async function lab(): Promise<{ readonly echo: Echo; readonly proxy: TcpProxy; readonly caller: Caller }> {
  const echo = await echoServer();
  const proxy = await openTcpProxy(echo.port);
  const caller = await call(proxy.port);
  cleanups.push(
    () => caller.socket.destroy(),
    () => proxy[Symbol.asyncDispose](),
    () => echo.server.close(),
  );
  return { echo, proxy, caller };
}

const hears = (caller: Caller, bytes: number): Promise<boolean> => until(() => caller.heard.bytes >= bytes, 5_000, 1);

test("a whole link passes everything, in both directions, and the end of a connection", async () => {
  const { caller, proxy, echo } = await lab();
  caller.socket.write(Buffer.alloc(3_000_000));
  expect(await hears(caller, 3_000_000)).toBe(true);
  expect(echo.heard.bytes).toBe(3_000_000);
  caller.socket.end();
  expect(await until(() => proxy.connections() === 0, 5_000)).toBe(true);
  expect(caller.ended()).toBe("");
});

test("latency is added to both directions, and bytes per second are a limit", async () => {
  const { caller, proxy } = await lab();
  proxy.set({ latencyMs: 100 });
  const started = performance.now();
  caller.socket.write("x");
  expect(await hears(caller, 1)).toBe(true);
  expect(performance.now() - started).toBeWithin(195, 600);
  proxy.set({ latencyMs: 0, bytesPerSecond: 100_000 });
  const slow = performance.now();
  caller.socket.write(Buffer.alloc(50_000));
  expect(await hears(caller, 50_001)).toBe(true);
  expect(performance.now() - slow).toBeWithin(400, 2_500);
});

test("half-open swallows without a word, and resets what has lost bytes when it heals", async () => {
  const { caller, proxy, echo } = await lab();
  caller.socket.write("a");
  expect(await hears(caller, 1)).toBe(true);
  proxy.set({ swallow: ["up", "down"] });
  caller.socket.write("b");
  await Bun.sleep(100);
  expect({ echoed: echo.heard.bytes, heard: caller.heard.bytes, ended: caller.ended() }).toEqual({
    echoed: 1,
    heard: 1,
    ended: null,
  });
  await proxy.heal();
  expect(await until(() => caller.ended() !== null, 5_000)).toBe(true);
});

test("one direction alone: the server hears, and its answers vanish", async () => {
  const { caller, proxy, echo } = await lab();
  proxy.set({ swallow: ["down"] });
  caller.socket.write("abc");
  expect(await until(() => echo.heard.bytes === 3, 5_000)).toBe(true);
  await Bun.sleep(50);
  expect(caller.heard.bytes).toBe(0);
});

test("a cut is a reset for both sides; refused connections come back when it heals", async () => {
  const { caller, proxy } = await lab();
  proxy.cut();
  expect(await until(() => caller.ended() === "ECONNRESET", 5_000)).toBe(true);
  await proxy.refuse();
  expect((await call(proxy.port)).ended()).toBe("ECONNREFUSED");
  await proxy.heal();
  const back = await call(proxy.port);
  back.socket.write("x");
  expect(await hears(back, 1)).toBe(true);
  back.socket.destroy();
});

test("a connection is reset in the middle of a message", async () => {
  const { caller, proxy, echo } = await lab();
  const reset = proxy.resetAfter("up", 1_000);
  caller.socket.write(Buffer.alloc(4_000));
  await reset;
  expect(await until(() => caller.ended() === "ECONNRESET", 5_000)).toBe(true);
  expect(echo.heard.bytes).toBe(1_000);
});

test("what is asked for is done, and its answer lost", async () => {
  const { caller, proxy, echo } = await lab();
  caller.socket.write("BEGIN");
  expect(await hears(caller, 5)).toBe(true);
  const lost = proxy.loseAnswerTo("COMMIT");
  caller.socket.write("COMMIT");
  await lost;
  expect(await until(() => caller.ended() === "ECONNRESET", 5_000)).toBe(true);
  expect({ echoed: echo.heard.bytes, heard: caller.heard.bytes }).toEqual({ echoed: 11, heard: 5 });
});
