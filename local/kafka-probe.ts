import { connect } from "node:net";

const apiVersions = 18;
const metadata = 3;

/** True when the broker speaks the protocol and its cluster has a broker to put topics on. */
export async function kafkaAnswers(port: number, withinMs = 2_000): Promise<boolean> {
  const versions = await ask(port, requestOf(apiVersions, 0, Buffer.alloc(0)), withinMs);
  if (versions.length < 6 || versions.readInt16BE(4) !== 0) return false;
  // Metadata 1 of no topic: correlation id, then the brokers.
  const cluster = await ask(port, requestOf(metadata, 1, Buffer.alloc(4)), withinMs);
  return cluster.length >= 8 && cluster.readInt32BE(4) > 0;
}

function requestOf(apiKey: number, version: number, body: Buffer): Buffer {
  const header = Buffer.alloc(14);
  header.writeInt32BE(10 + body.length, 0);
  header.writeInt16BE(apiKey, 4);
  header.writeInt16BE(version, 6);
  header.writeInt32BE(1, 8);
  header.writeInt16BE(-1, 12);
  return Buffer.concat([header, body]);
}

/** Sends one request and gives the reply without its length. */
function ask(port: number, request: Buffer, withinMs: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const socket = connect({ port, host: "127.0.0.1" });
    const fail = (error: Error): void => {
      socket.destroy();
      reject(error);
    };
    socket.setTimeout(withinMs, () => fail(new Error(`no reply within ${withinMs} ms`)));
    socket.once("error", fail);
    socket.once("close", () => reject(new Error("closed without a reply")));
    socket.once("connect", () => socket.write(request));
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 4 || received.length < 4 + received.readInt32BE(0)) return;
      resolve(received.subarray(4));
      socket.destroy();
    });
  });
}
