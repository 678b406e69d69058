import { expect, test } from "bun:test";
import { readReplicationMessage, startReplication, statusUpdate, XLOG_DATA_HEADER_BYTES } from "./replication-protocol.ts";

/** Layouts: PostgreSQL's documentation, "Streaming Replication Protocol". */

function xlogData(text: string): Buffer {
  const header = Buffer.alloc(25);
  header.write("w", 0);
  return Buffer.concat([header, Buffer.from(text)]);
}

test("data is what comes after its header", () => {
  const chunk = xlogData('{"action":"M","é":1}');
  expect(readReplicationMessage(chunk)).toEqual({ kind: "data" });
  expect(chunk.toString("utf8", XLOG_DATA_HEADER_BYTES)).toBe('{"action":"M","é":1}');
});

test("a keepalive carries the WAL's end, all 64 bits of it, and whether a reply is wanted", () => {
  const chunk = Buffer.alloc(18);
  chunk.write("k", 0);
  chunk.writeBigUInt64BE(2n ** 63n + 5n, 1);
  expect(readReplicationMessage(chunk)).toEqual({ kind: "keepalive", walEnd: 2n ** 63n + 5n, replyRequested: false });
  chunk[17] = 1;
  expect(readReplicationMessage(chunk)).toMatchObject({ replyRequested: true });
});

test("another kind of message is refused", () => {
  expect(() => readReplicationMessage(Buffer.from("x"))).toThrow(TypeError);
});

test("a status update tells one LSN as written, flushed and applied, and the time since 2000 in microseconds", () => {
  const update = statusUpdate(2n ** 63n + 7n, Date.UTC(2000, 0, 1, 0, 0, 1));
  expect(update).toHaveLength(34);
  expect(update.toString("latin1", 0, 1)).toBe("r");
  for (const at of [1, 9, 17]) expect(update.readBigUInt64BE(at)).toBe(2n ** 63n + 7n);
  expect(update.readBigInt64BE(25)).toBe(1_000_000n);
  expect(update[33]).toBe(0);
});

test("names and values are quoted as the command's grammar wants", () => {
  expect(startReplication('a"b', { "format-version": "2", x: "it's" })).toBe(
    `START_REPLICATION SLOT "a""b" LOGICAL 0/0 ("format-version" '2', "x" 'it''s')`,
  );
});
