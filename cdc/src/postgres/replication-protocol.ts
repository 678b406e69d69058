import type { Lsn } from "@cascade/shared/lsn";

/** PostgreSQL's streaming replication messages inside CopyData (protocol documentation, "Streaming Replication Protocol"). */

const XLOG_DATA = 0x77; // w
const KEEPALIVE = 0x6b; // k
const STATUS_UPDATE = 0x72; // r
/** Before a message's own bytes. */
export const XLOG_DATA_HEADER_BYTES = 25;

const DATA: ReplicationMessage = { kind: "data" };

/** 2000-01-01 in milliseconds since 1970: where PostgreSQL counts from. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

export type ReplicationMessage =
  | { readonly kind: "data" }
  | { readonly kind: "keepalive"; readonly walEnd: Lsn; readonly replyRequested: boolean };

/** Reads one CopyData payload; data is what comes after XLOG_DATA_HEADER_BYTES. Throws TypeError on another kind of message. */
export function readReplicationMessage(chunk: Buffer): ReplicationMessage {
  switch (chunk[0]) {
    case XLOG_DATA:
      return DATA;
    case KEEPALIVE:
      return { kind: "keepalive", walEnd: chunk.readBigUInt64BE(1), replyRequested: chunk[17] === 1 };
    default:
      throw new TypeError(`the walsender sent a message of kind ${chunk[0]}`);
  }
}

/** A standby status update: everything up to `confirmed` may be forgotten by the server. */
export function statusUpdate(confirmed: Lsn, nowMs: number): Buffer {
  const message = Buffer.alloc(34);
  message[0] = STATUS_UPDATE;
  message.writeBigUInt64BE(confirmed, 1); // written
  message.writeBigUInt64BE(confirmed, 9); // flushed: what the slot's confirmed_flush_lsn follows
  message.writeBigUInt64BE(confirmed, 17); // applied
  message.writeBigInt64BE(BigInt(nowMs - POSTGRES_EPOCH_MS) * 1000n, 25);
  return message; // last byte 0: no reply asked for
}

/** `START_REPLICATION` for a logical slot, from its confirmed LSN. Identifiers and values are quoted as its own grammar wants. */
export function startReplication(slot: string, options: Readonly<Record<string, string>>): string {
  const list = Object.entries(options).map(([name, value]) => `"${name}" '${value.replaceAll("'", "''")}'`);
  return `START_REPLICATION SLOT "${slot.replaceAll('"', '""')}" LOGICAL 0/0 (${list.join(", ")})`;
}
