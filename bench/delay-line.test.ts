import { afterEach, expect, test } from "bun:test";
import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";
import { openDelayLine } from "./delay-line.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

/** A client on a line to a server that answers every message with itself. */
async function lineOf(roundTripMs: number): Promise<Socket> {
  const echo = createServer({ allowHalfOpen: true }, (socket) => socket.on("error", () => {}).pipe(socket));
  await new Promise<void>((resolve) => echo.listen({ port: 0, host: "127.0.0.1" }, resolve));
  const line = await openDelayLine((echo.address() as AddressInfo).port, roundTripMs);
  const client = dial({ port: line.port, host: "127.0.0.1", allowHalfOpen: true });
  await new Promise<void>((resolve) => client.once("connect", () => resolve()));
  cleanups.push(
    () => client.destroy(),
    () => line[Symbol.asyncDispose](),
    () => echo.close(),
  );
  return client;
}

/** When so many bytes have come back. */
function heard(client: Socket, bytes: number): Promise<readonly Buffer[]> {
  const chunks: Buffer[] = [];
  let sum = 0;
  return new Promise((resolve) => {
    client.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      sum += chunk.length;
      if (sum >= bytes) resolve(chunks);
    });
  });
}

test("an answer takes the round trip, however many wait at once", async () => {
  const client = await lineOf(60);
  const startedAt = performance.now();
  const answers = heard(client, 20);
  for (let n = 0; n < 20; n++) {
    client.write("x");
    await Bun.sleep(1); // were each to wait for the one before, it would be 20 times 60 ms
  }
  await answers;
  expect(performance.now() - startedAt).toBeWithin(78, 900);
});

test("far more than a round trip's worth of bytes is under way at once, and in order", async () => {
  const client = await lineOf(400);
  const sent = Buffer.alloc(8_000_000).map((_, at) => at % 251);
  const startedAt = performance.now();
  const answer = heard(client, sent.length);
  client.end(sent);
  expect(Buffer.concat(await answer).equals(sent)).toBe(true);
  // e2e's proxy would take 8 MB / 256 KiB * 200 ms = 6 s.
  expect(performance.now() - startedAt).toBeWithin(399, 4_000);
});

test("the end of a connection comes after its last bytes", async () => {
  const client = await lineOf(20);
  const ended = new Promise<string>((resolve) => {
    let text = "";
    client.on("data", (bytes: Buffer) => {
      text += bytes.toString();
    });
    client.on("end", () => resolve(text));
  });
  client.end("last words");
  expect(await ended).toBe("last words");
});
