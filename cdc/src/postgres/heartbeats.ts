import { pause } from "@cascade/shared/retry";
import type pg from "pg";
import { INSUFFICIENT_PRIVILEGE, postgresError, READ_ONLY, sqlStateOf } from "./session.ts";
import { HEARTBEAT_PREFIX } from "./wal2json.ts";

/** A missing right, and a server that only reads. */
const CANNOT = new Set([INSUFFICIENT_PRIVILEGE, READ_ONLY]);

export interface HeartbeatOptions {
  /** Of a session that others may use as well. */
  readonly client: pg.Client;
  readonly slot: string;
  /** 0: none. */
  readonly intervalMs: number;
  readonly warn: (message: string) => void;
}

/**
 * Writes a message into main-db's WAL every now and then, which comes back through the slot: a position to confirm where no captured
 * table changes, and a sign of life for consumers. Ends when `signal` aborts; rejects with a CascadeError when main-db is away.
 */
export async function beat({ client, slot, intervalMs, warn }: HeartbeatOptions, signal: AbortSignal): Promise<void> {
  if (intervalMs === 0) return;
  while (!signal.aborted) {
    try {
      // In a transaction: such a one stands at a position, and the slot's end moves with its commit.
      await client.query("SELECT pg_logical_emit_message(true, $1, $2)", [HEARTBEAT_PREFIX, slot]);
    } catch (error) {
      if (!CANNOT.has(sqlStateOf(error) ?? "")) throw postgresError(error, "cannot write a heartbeat");
      warn(
        "no heartbeats: the role may not call pg_logical_emit_message, so main-db may keep WAL while no captured table changes; GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO <user>, or CDC_HEARTBEAT_INTERVAL_MS=0",
      );
      return;
    }
    await pause(intervalMs, signal);
  }
}
