import { CascadeError } from "@cascade/shared/errors";
import { formatLsn, type Lsn, parseLsn } from "@cascade/shared/lsn";
import type pg from "pg";
import { databaseName, OBJECT_IN_USE, OBJECT_NOT_READY, postgresError, SLOT_ACTIVE_ADVICE, sqlStateOf } from "./session.ts";

/** The replication slot as `pg_replication_slots` shows it. */
export interface SlotState {
  readonly plugin: string;
  readonly database: string;
  /** Process id of the walsender that holds it, null when nobody does. */
  readonly activePid: number | null;
  readonly walStatus: "reserved" | "extended" | "unreserved" | "lost";
  readonly confirmedLsn: Lsn;
  readonly retainedBytes: number;
  /** Bytes until max_slot_wal_keep_size is reached, null without that limit. */
  readonly safeBytes: number | null;
  /** PostgreSQL 17: standbys have it, too. */
  readonly failover: boolean;
}

interface SlotRow {
  readonly plugin: string | null;
  readonly database: string | null;
  readonly active_pid: number | null;
  readonly wal_status: SlotState["walStatus"] | null;
  readonly confirmed: string | null;
  readonly retained: string | null;
  readonly safe: string | null;
  readonly failover: boolean;
}

const STATE = `
  SELECT plugin, database, active_pid, wal_status, confirmed_flush_lsn::text AS confirmed,
         pg_wal_lsn_diff(pg_current_wal_flush_lsn(), restart_lsn)::text AS retained, safe_wal_size::text AS safe,
         coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover
    FROM pg_replication_slots s WHERE slot_name = $1`;

/** null when there is no such slot. */
export async function slotState(client: pg.Client, slot: string): Promise<SlotState | null> {
  const row = (await client.query<SlotRow>(STATE, [slot])).rows[0];
  if (row === undefined) return null;
  return {
    plugin: row.plugin ?? "none (a physical slot)",
    database: row.database ?? "none (a physical slot)",
    activePid: row.active_pid,
    walStatus: row.wal_status ?? "lost",
    confirmedLsn: parseLsn(row.confirmed ?? "0/0"),
    retainedBytes: Number(row.retained ?? 0),
    safeBytes: row.safe === null ? null : Number(row.safe),
    failover: row.failover,
  };
}

export interface SlotRequest {
  readonly slot: string;
  /** Something was already published from this pipeline: a slot that is gone then means lost changes, and is not made anew. */
  readonly hasPublished: boolean;
}

/** Makes sure that the slot, if there is one, is ours and free. Rejects with a CascadeError naming the cure; SLOT_ACTIVE heals. */
export async function checkSlot(
  client: pg.Client,
  slot: string,
  /** `lost`: one that has lost WAL is no error. */
  { lost = false }: { readonly lost?: boolean } = {},
): Promise<"found" | "missing"> {
  try {
    const state = await slotState(client, slot);
    if (state === null) return "missing";
    const database = await databaseName(client);
    if (state.plugin !== "wal2json" || state.database !== database) throw foreignSlot(slot, state, database);
    if (state.activePid !== null) throw slotActive(slot);
    if (state.walStatus === "lost" && !lost) throw slotLost(slot, "has lost WAL that was not read (max_slot_wal_keep_size)");
    return "found";
  } catch (error) {
    throw postgresError(error, `cannot check replication slot "${slot}"`);
  }
}

/** Where the stream begins. */
export async function confirmedLsn(client: pg.Client, slot: string): Promise<Lsn> {
  try {
    const state = await slotState(client, slot);
    if (state === null) throw slotLost(slot, "is gone");
    return state.confirmedLsn;
  } catch (error) {
    throw postgresError(error, `cannot look at replication slot "${slot}"`);
  }
}

export interface EnsuredSlot {
  readonly slot: "created" | "found";
  /** Of one that was created: where it begins. */
  readonly begin: Lsn | null;
}

/** Makes sure that the slot is there, ours and free; creates it on a first start. */
export async function ensureSlot(client: pg.Client, { slot, hasPublished }: SlotRequest): Promise<EnsuredSlot> {
  if ((await checkSlot(client, slot)) === "found") return { slot: "found", begin: null };
  if (hasPublished) throw slotLost(slot, "is gone");
  try {
    const { rows } = await client.query<{ readonly begin: string }>(createSlot(await serverVersion(client)), [slot]);
    return { slot: "created", begin: parseLsn(rows[0]?.begin ?? "") };
  } catch (error) {
    throw postgresError(error, `cannot create replication slot "${slot}"`);
  }
}

const FAILOVER_SINCE = 170_000;
const CREATED = "SELECT lsn::text AS begin FROM pg_create_logical_replication_slot";

/** PostgreSQL 17 copies a failover slot to its standbys (sync_replication_slots): it outlives the primary. */
export function createSlot(versionNumber: number): string {
  if (versionNumber < FAILOVER_SINCE) return `${CREATED}($1, 'wal2json')`;
  return `${CREATED}($1, 'wal2json', temporary => false, twophase => false, failover => true)`;
}

async function serverVersion(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ readonly version: string }>("SELECT current_setting('server_version_num') AS version");
  return Number(rows[0]?.version ?? 0);
}

/** Takes back the slot of a start that was refused: nobody would read it, and it would hold main-db's WAL. */
export async function dropSlot(client: pg.Client, slot: string): Promise<void> {
  try {
    await client.query("SELECT pg_drop_replication_slot($1)", [slot]);
  } catch (error) {
    throw postgresError(error, `cannot drop replication slot "${slot}"`);
  }
}

/** Everything that ends at or before `through` is durable downstream. */
export async function advanceSlot(client: pg.Client, slot: string, through: Lsn): Promise<void> {
  await client.query("SELECT pg_replication_slot_advance($1, $2)", [slot, formatLsn(through)]);
}

function foreignSlot(slot: string, state: SlotState, database: string): CascadeError {
  return new CascadeError({
    code: "FOREIGN_SLOT",
    verdict: "refuse",
    message: `replication slot "${slot}" is of plugin ${state.plugin} in database ${state.database}; cdc needs wal2json in ${database}`,
    advice: "give cdc a slot of its own by CDC_SLOT, or drop that one: SELECT pg_drop_replication_slot(...)",
  });
}

/** It was there when this life judged it: the next one says what is lost, or repairs it. */
const slotLost = (slot: string, what: string, cause?: unknown): CascadeError =>
  new CascadeError({
    code: "SLOT_LOST",
    verdict: "retry",
    message: `replication slot "${slot}" ${what}`,
    advice: "nothing to do: cdc looks at the slot anew, and says what is lost",
    cause,
  });

/** What main-db says to whoever reads the slot. One that has become invalid meanwhile is for the next life, as one that is gone is. */
export function slotReadError(error: unknown, slot: string, doing: string): CascadeError {
  switch (sqlStateOf(error)) {
    case OBJECT_IN_USE:
      return slotActive(slot, error);
    case OBJECT_NOT_READY:
      return slotLost(slot, `cannot be read: ${postgresError(error, doing).message}`, error);
    default:
      return postgresError(error, doing);
  }
}

/** It heals, or the next life says what is lost. */
export function slotMoved(slot: string): CascadeError {
  return new CascadeError({
    code: "SLOT_MOVED",
    verdict: "retry",
    message: `replication slot "${slot}" was advanced, or made anew, by somebody else`,
    advice: "nothing to do: cdc looks at it anew, and says what is lost",
  });
}

/** A standby looks this often. */
const STANDBY_INTERVAL_MS = 1_000;

export function slotActive(slot: string, cause?: unknown, retryAfterMs = STANDBY_INTERVAL_MS): CascadeError {
  return new CascadeError({
    code: "SLOT_ACTIVE",
    verdict: "retry",
    message: `replication slot "${slot}" is held by another cdc`,
    advice: SLOT_ACTIVE_ADVICE,
    retryAfterMs,
    cause,
  });
}
