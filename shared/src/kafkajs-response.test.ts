import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import fc from "fast-check";

/** What `patches/kafkajs@2.2.4.patch` makes of the bytes that come from a broker: each is copied once, to where its response is read. */

const inside = createRequire(import.meta.url);

interface Response {
  readonly size: number;
  readonly correlationId: number;
  readonly payload: Buffer;
}
interface Connection {
  readonly partial: Buffer | null;
  requestQueue: { fulfillRequest(response: Response): void };
  processData(chunk: Buffer): void;
  connect(): Promise<void>;
  disconnect(): Promise<void>;
}
const ConnectionClass = inside("kafkajs/src/network/connection") as new (options: object) => Connection;
const logger = { namespace: () => logger, debug() {}, error() {}, info() {}, warn() {} };

function connected(): { readonly connection: Connection; readonly got: Response[] } {
  const connection = new ConnectionClass({ host: "h", port: 1, logger, socketFactory: () => undefined });
  const got: Response[] = [];
  connection.requestQueue = { fulfillRequest: (response) => void got.push(response) };
  return { connection, got };
}

const response = (correlationId: number, payload: Uint8Array): Buffer => {
  const head = Buffer.alloc(8);
  head.writeInt32BE(4 + payload.length, 0);
  head.writeInt32BE(correlationId, 4);
  return Buffer.concat([head, payload]);
};

const payload = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.nat(3_000).map((length) => Buffer.alloc(length, length)),
  fc.constantFrom(65_535, 65_536, 200_000).map((length) => Buffer.alloc(length, 7)),
);

test("responses are read one after the other, wherever the socket has cut them", () => {
  fc.assert(
    fc.property(
      fc.array(payload, { maxLength: 6 }),
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }),
      (payloads, cuts) => {
        const { connection, got } = connected();
        const bytes = Buffer.concat(payloads.map((one, at) => response(at, one)));
        const places = cuts.map((cut) => Math.floor(cut * bytes.length)).sort((a, b) => a - b);
        for (const [at, end] of [...places, bytes.length].entries()) {
          // Whoever has handed a chunk over may use its buffer again.
          const chunk = Buffer.from(bytes.subarray(places[at - 1] ?? 0, end));
          if (chunk.length > 0) connection.processData(chunk);
        }
        expect(got.map(({ correlationId, size }) => [correlationId, size])).toEqual(
          payloads.map((one, at) => [at, one.length + 4]),
        );
        for (const [at, one] of got.entries()) expect(one.payload.equals(Buffer.from(payloads[at] as Uint8Array))).toBe(true);
      },
    ),
    { numRuns: 500 },
  );
});

test("a large response is put together in one buffer of its own size", () => {
  const { connection, got } = connected();
  const bytes = response(1, Buffer.alloc(2_000_000, 1));
  connection.processData(bytes.subarray(0, 10));
  expect(connection.partial?.length).toBe(bytes.length);
  for (let at = 10; at < bytes.length; at += 65_536) connection.processData(bytes.subarray(at, at + 65_536));
  expect([got.length, connection.partial]).toEqual([1, null]);
});

test("half of a response is not taken for the beginning of what comes over the next connection", async () => {
  const { connection, got } = connected();
  const [first, second] = [response(1, Buffer.alloc(200_000, 1)), response(2, Buffer.alloc(10, 2))];
  const sockets: { onData?: (data: Buffer) => void; onConnect?: () => void }[] = [];
  Object.assign(connection, {
    socketFactory: ({ onConnect }: { onConnect: () => void }) => {
      const socket = {
        onConnect,
        on: (event: string, listener: (data: Buffer) => void) => event === "data" && Object.assign(socket, { onData: listener }),
      };
      sockets.push(socket);
      return Object.assign(socket, { end() {}, unref() {} });
    },
    requestQueue: {
      ...connection.requestQueue,
      scheduleRequestTimeoutCheck() {},
      waitForPendingRequests: async () => {},
      destroy() {},
      rejectAll() {},
    },
  });
  const connecting = connection.connect();
  sockets[0]?.onConnect?.();
  await connecting;
  sockets[0]?.onData?.(first.subarray(0, 500));
  expect(connection.partial?.length).toBe(first.length);
  await connection.disconnect();
  const again = connection.connect();
  sockets[1]?.onConnect?.();
  await again;
  sockets[0]?.onData?.(first.subarray(500, 900)); // late, of the one that is gone
  sockets[1]?.onData?.(second);
  expect(got.map(({ correlationId }) => correlationId)).toEqual([2]);
});

test("what is no broker's response reserves no memory", () => {
  const { connection, got } = connected();
  connection.processData(Buffer.from("HTTP/1.1 400 Bad Request\r\n"));
  expect([got.length, connection.partial]).toEqual([0, null]);
});
