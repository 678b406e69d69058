import type pg from "pg";
import { INVALID_PARAMETER, postgresError, sqlStateOf } from "./session.ts";
import { slotReadError } from "./slot.ts";
import { PLUGIN_OPTIONS, PLUGIN_OPTIONS_2_6, type PluginOptions } from "./wal2json.ts";

/** An LSN that every slot is past: the plugin reads its options, and the look ends with the first record. */
const NOTHING = "0/1";

export interface Plugin {
  readonly options: PluginOptions;
  /** Older than 2.6: NaN and infinities come as null. */
  readonly losesNumbers: boolean;
}

/** What the slot's plugin can be asked for. Found by trying: it tells its version nowhere, and an unknown option is fatal (facts.md §1.1). */
export async function probePlugin(client: pg.Client, slot: string): Promise<Plugin> {
  const options = Object.entries(PLUGIN_OPTIONS_2_6).flat();
  const marks = options.map((_, at) => `$${at + 3}`).join(", ");
  try {
    await client.query(`SELECT FROM pg_logical_slot_peek_changes($1, $2, 1, ${marks})`, [slot, NOTHING, ...options]);
    return { options: PLUGIN_OPTIONS_2_6, losesNumbers: false };
  } catch (error) {
    if (sqlStateOf(error) !== INVALID_PARAMETER) throw slotReadError(error, slot, "cannot find out what wal2json knows");
    await slotReleased(client);
    return { options: PLUGIN_OPTIONS, losesNumbers: true };
  }
}

/** A session tells of an error before it lets go of its slot; it answers the next query after that. */
async function slotReleased(client: pg.Client): Promise<void> {
  try {
    await client.query("SELECT 1");
  } catch (error) {
    throw postgresError(error, "cannot find out what wal2json knows");
  }
}
