import type pg from "pg";
import { type SlotState, slotState } from "./slot.ts";

/** Another logical slot that nobody reads. */
export interface OtherSlot {
  readonly name: string;
  readonly retainedBytes: number;
}

/** The slot as main-db shows it, and what may hold it back. */
export interface SlotLook {
  readonly slot: SlotState;
  /** WAL that is not confirmed. */
  readonly behindBytes: number;
  /** The oldest transaction that writes; null when there is none, or its age may not be seen. */
  readonly longest: { readonly pid: number; readonly seconds: number } | null;
  readonly others: readonly OtherSlot[];
}

const BEHIND = `
  SELECT greatest(0, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn))::text AS behind
    FROM pg_replication_slots WHERE slot_name = $1`;
const LONGEST = `
  SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1`;
const OTHERS = `
  SELECT slot_name AS name, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::text AS retained
    FROM pg_replication_slots
   WHERE slot_type = 'logical' AND NOT active AND restart_lsn IS NOT NULL AND slot_name <> $1 ORDER BY restart_lsn`;

/** null when there is no such slot. */
export async function lookAtSlot(client: pg.Client, name: string): Promise<SlotLook | null> {
  const slot = await slotState(client, name);
  if (slot === null) return null;
  const behind = await client.query<{ readonly behind: string | null }>(BEHIND, [name]);
  const longest = await client.query<{ readonly pid: number; readonly seconds: number }>(LONGEST);
  const others = await client.query<{ readonly name: string; readonly retained: string }>(OTHERS, [name]);
  return {
    slot,
    behindBytes: Number(behind.rows[0]?.behind ?? 0),
    longest: longest.rows[0] ?? null,
    others: others.rows.map((row) => ({ name: row.name, retainedBytes: Number(row.retained) })),
  };
}
