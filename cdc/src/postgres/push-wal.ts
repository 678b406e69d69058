import { formatLsn, type Lsn, parseLsn } from "@cascade/shared/lsn";
import type pg from "pg";
import { postgresError } from "./session.ts";

const MESSAGE_BYTES = 1024 * 1024;

/**
 * Writes into main-db's WAL until it ends beyond `limit`: what a new slot brings then has positions beyond all that was published. At
 * most a few dozen megabytes, that nobody reads.
 */
export async function pushWalBeyond(client: pg.Client, limit: Lsn): Promise<void> {
  try {
    for (;;) {
      const { rows } = await client.query<{ readonly lsn: string }>("SELECT pg_current_wal_insert_lsn()::text AS lsn");
      const missing = limit - parseLsn(rows[0]?.lsn ?? "0/0");
      if (missing < 0n) return;
      const bytes = missing < BigInt(MESSAGE_BYTES) ? Number(missing) + 1 : MESSAGE_BYTES;
      await client.query("SELECT pg_logical_emit_message(false, 'cascade.push', repeat('x', $1))", [bytes]);
    }
  } catch (error) {
    throw postgresError(error, `cannot write main-db's WAL beyond ${formatLsn(limit)}`);
  }
}
