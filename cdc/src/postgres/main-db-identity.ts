import { type Lsn, parseLsn } from "@cascade/shared/lsn";
import type pg from "pg";
import { connect, disconnect, INSUFFICIENT_PRIVILEGE, postgresError, sqlStateOf } from "./session.ts";

/** Which server main-db is, and where its WAL ends: what tells another one, or one that was set back. */
export interface MainDbIdentity {
  /** null where the role may not see it. */
  readonly systemId: string | null;
  readonly timeline: number;
  readonly walEnd: Lsn;
  /** PostgreSQL 17: walsenders of failover slots wait for these standbys. */
  readonly synchronizedStandbys: boolean;
}

interface IdentityRow {
  readonly timeline: string;
  readonly wal_end: string;
  readonly standbys: string | null;
}

// The name of the WAL file begins with the timeline; pg_control_checkpoint() tells the last checkpoint's, which may be of before a promotion.
const STANDBYS = "(SELECT setting FROM pg_settings WHERE name = 'synchronized_standby_slots') AS standbys";
const IDENTITY = `
  SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline, pg_current_wal_flush_lsn()::text AS wal_end, ${STANDBYS}`;

export async function mainDbIdentity(client: pg.Client): Promise<MainDbIdentity> {
  try {
    const row = (await client.query<IdentityRow>(IDENTITY)).rows[0];
    return {
      systemId: await systemId(client),
      timeline: Number.parseInt(row?.timeline ?? "0", 16),
      walEnd: parseLsn(row?.wal_end ?? "0/0"),
      synchronizedStandbys: (row?.standbys ?? "") !== "",
    };
  } catch (error) {
    throw postgresError(error, "cannot ask main-db which server it is");
  }
}

/** Asked again and again: a reload of main-db's settings is enough to change it. */
export async function waitsForStandbys(client: pg.Client): Promise<boolean> {
  try {
    const { rows } = await client.query<Pick<IdentityRow, "standbys">>(`SELECT ${STANDBYS}`);
    return (rows[0]?.standbys ?? "") !== "";
  } catch (error) {
    throw postgresError(error, "cannot ask main-db for which standbys it waits");
  }
}

async function systemId(client: pg.Client): Promise<string | null> {
  try {
    const { rows } = await client.query<{ readonly id: string }>("SELECT system_identifier::text AS id FROM pg_control_system()");
    return rows[0]?.id ?? null;
  } catch (error) {
    if (sqlStateOf(error) === INSUFFICIENT_PRIVILEGE) return null;
    throw error;
  }
}

/** Where main-db left `timeline` on its way to `current`; null when it never was on it, or that cannot be found out. */
export async function leftTimelineAt(databaseUrl: string, timeline: number, current: number): Promise<Lsn | null> {
  let client: pg.Client;
  try {
    client = await connect(databaseUrl, { replication: true });
  } catch (error) {
    const refused = postgresError(error, "cannot read the history of main-db's timelines");
    if (refused.verdict === "retry") throw refused;
    return null; // a server that allows no replication connection
  }
  try {
    const { rows } = await client.query<{ readonly content: unknown }>(`TIMELINE_HISTORY ${current}`);
    return switchedAt(String(rows[0]?.content ?? ""), timeline);
  } catch (error) {
    throw postgresError(error, "cannot read the history of main-db's timelines");
  } finally {
    await disconnect(client);
  }
}

/** A timeline history file has a line for each timeline that was left: its number, where, and why. Pure. */
export function switchedAt(history: string, timeline: number): Lsn | null {
  for (const line of history.split("\n")) {
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)/.exec(line);
    if (match !== null && Number(match[1]) === timeline) return parseLsn(match[2] as string);
  }
  return null;
}
