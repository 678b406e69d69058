import { lateMessages } from "@cascade/cdc/src/postgres/ddl-message.ts";
import { DDL_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { formatLsn } from "@cascade/shared/lsn";
import type pg from "pg";
import { catalogRows } from "./catalog-rows.ts";
import type { MainDb } from "./main-db.ts";
import type { SimulatedSession } from "./main-db-session.ts";

type Row = Readonly<Record<string, unknown>>;

/** What cdc asks of main-db beside its tables' rows, by a piece of the query that no other has. */
const ANSWERS: readonly (readonly [piece: string, answer: (mainDb: MainDb, values: readonly unknown[]) => Row[]])[] = [
  ["FROM pg_replication_slots s WHERE slot_name", slotRows],
  ["pg_drop_replication_slot", dropped],
  ["pg_create_logical_replication_slot", created],
  [".tell(", told],
  ["BEGIN", () => []],
  ["SET LOCAL", () => []],
  ["COMMIT", () => []],
  ["ROLLBACK", () => []],
  ["pg_logical_emit_message(true", message],
  ["pg_logical_emit_message(false", pushed],
  ["pg_current_wal_insert_lsn", (mainDb) => [{ lsn: formatLsn(mainDb.writtenLsn) }]],
  ["pg_walfile_name", (mainDb) => [{ timeline: "00000001", wal_end: formatLsn(mainDb.writtenLsn), standbys: null }]],
  ["pg_control_system", (mainDb) => [{ id: mainDb.systemId }]],
  ["current_database()", () => [{ name: "app" }]],
  ["server_version_num", () => [{ version: "160004" }]],
  ["pg_backend_pid", () => [{ pid: 1 }]],
  ["pg_blocking_pids", () => []],
  ["FROM pg_class WHERE oid = ANY", existing],
];

/** Of a connection that is open. */
export const QUERY_RISK = 0.1;

/** As much of a client of main-db as cdc's start needs: its SQL, answered by the simulated server. */
export function mainDbClient(mainDb: MainDb, session: SimulatedSession): pg.Client {
  const query = async (text: string, values: readonly unknown[] = []) => {
    const answer = ANSWERS.find(([piece]) => text.includes(piece))?.[1];
    if (answer === undefined) throw new Error(`the simulated main-db does not know: ${text}`);
    return { rows: await session.call(() => answer(mainDb, values), QUERY_RISK) };
  };
  return { query } as unknown as pg.Client;
}

function slotRows({ slot }: MainDb): Row[] {
  if (slot === null) return [];
  const { confirmed, holder, isLost } = slot;
  return [
    {
      plugin: "wal2json",
      database: "app",
      active_pid: holder === null ? null : 1,
      wal_status: isLost ? "lost" : "reserved",
      confirmed: formatLsn(confirmed),
      retained: "0",
      safe: null,
      failover: false,
    },
  ];
}

function dropped(mainDb: MainDb): Row[] {
  if (mainDb.slot === null) throw sqlError("42704", "there is no such slot");
  if (mainDb.slot.holder !== null) throw sqlError("55006", "the slot is active");
  mainDb.slot = null;
  return [];
}

function created(mainDb: MainDb): Row[] {
  if (mainDb.slot !== null) throw sqlError("42710", "the slot is there already");
  mainDb.createSlot();
  return slotRows(mainDb).map(({ confirmed }) => ({ begin: confirmed }));
}

function message(mainDb: MainDb, [prefix, content]: readonly unknown[]): Row[] {
  mainDb.commit(mainDb.begin(), [{ kind: "mark", prefix: String(prefix), content: String(content) }], 0);
  return [];
}

/** What cdc's own function writes into the WAL of tables that the stream has told otherwise of. */
function told(mainDb: MainDb, [oids]: readonly unknown[]): Row[] {
  const schemas = (oids as readonly number[]).flatMap((oid) => mainDb.tables.get(oid)?.schema ?? []);
  const gone = (oids as readonly number[]).filter((oid) => !mainDb.tables.has(oid));
  const messages = lateMessages(catalogRows(schemas), gone, new Set());
  const items = messages.map((content) => ({ kind: "mark" as const, prefix: DDL_PREFIX, content }));
  mainDb.commit(mainDb.begin(), items, 0);
  return [];
}

function pushed(mainDb: MainDb, [bytes]: readonly unknown[]): Row[] {
  mainDb.push(BigInt(Number(bytes)));
  return [];
}

function existing(mainDb: MainDb, [oids]: readonly unknown[]): Row[] {
  return (oids as readonly number[]).filter((oid) => mainDb.tables.has(oid)).map((oid) => ({ oid: String(oid) }));
}

export const sqlError = (code: string, text: string): Error => Object.assign(new Error(text), { code });
