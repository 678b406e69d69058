import { CascadeError, describeError } from "@cascade/shared/errors";
import { RefusalError } from "@cascade/shared/settings";
import type pg from "pg";
import { DDL_COMMENT, DDL_SCHEMA, EVENT_TRIGGERS, INSTALL_SQL, UNINSTALL_SQL } from "./ddl-trigger.ts";
import { INSUFFICIENT_PRIVILEGE, postgresError, READ_ONLY, sqlStateOf } from "./session.ts";

/** CDC_DDL. */
export type DdlMode = "auto" | "required" | "off";

/** SQLSTATEs of a role that may not: a missing right, a read-only session. */
const MAY_NOT = [INSUFFICIENT_PRIVILEGE, READ_ONLY];
/** Any number, the same for every cdc: two that start at once install one after the other. */
const LOCK = 7_023_114_801;
const LOCK_TIMEOUT_MS = 5_000;

const STATE = `
  SELECT obj_description(to_regnamespace('${DDL_SCHEMA}'), 'pg_namespace') AS comment,
         (SELECT count(*)::int FROM pg_event_trigger WHERE evtname = ANY($1::text[]) AND evtenabled = 'A') AS triggers`;

/** Whether every schema change is written into the WAL now; `other`: by another version of cdc's. */
export async function ddlCaptureState(client: pg.Client): Promise<"installed" | "other" | "missing"> {
  try {
    const { rows } = await client.query<{ comment: string | null; triggers: number }>(STATE, [EVENT_TRIGGERS]);
    const [state] = rows;
    if (state === undefined || state.triggers < EVENT_TRIGGERS.length) return "missing";
    return state.comment === DDL_COMMENT ? "installed" : "other";
  } catch (error) {
    throw postgresError(error, "cannot look for the event triggers on main-db");
  }
}

/**
 * Makes sure, as far as CDC_DDL says, that schema changes are written into the WAL. Resolves to whether they are. Rejects with a refusal
 * where they must be and the role may not see to it.
 */
export async function ensureDdlCapture(client: pg.Client, mode: DdlMode, warn: (message: string) => void): Promise<boolean> {
  if (mode === "off") return false;
  const state = await ddlCaptureState(client);
  if (state === "installed") return true;
  try {
    await install(client);
    return true;
  } catch (error) {
    if (!MAY_NOT.includes(sqlStateOf(error) ?? "")) throw postgresError(error, "cannot install the event triggers on main-db");
    if (state === "other") {
      warn(`main-db has the event triggers of another version of cdc, which this role may not replace: ${CURE}`);
      return true;
    }
    if (mode === "required") throw new RefusalError([mayNot(error)]);
    warn(`${mayNot(error).message}; ${FALLBACK}: ${CURE}`);
    return false;
  }
}

async function install(client: pg.Client): Promise<void> {
  try {
    await client.query("BEGIN");
    await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
    await client.query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
    // Whoever was faster has done it.
    if ((await ddlCaptureState(client)) !== "installed") for (const statement of INSTALL_SQL) await client.query(statement);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK").catch(() => undefined);
    throw error instanceof CascadeError && error.cause !== undefined ? error.cause : error;
  }
}

/** Takes everything of ours out of main-db. Rejects with a CascadeError. */
export async function uninstallDdlCapture(client: pg.Client): Promise<void> {
  try {
    // One by one: a command of somebody else's that is under way finishes with the functions still there.
    for (const statement of UNINSTALL_SQL) await client.query(statement);
  } catch (error) {
    throw postgresError(error, "cannot remove the event triggers from main-db");
  }
}

const FALLBACK =
  "schema changes are found in the catalog and from the rows instead, which does not see all of them (README, Limits)";
const CURE = "let a superuser start cdc once, or set CDC_DDL=off when that is as it should be";

function mayNot(cause: unknown): CascadeError {
  return new CascadeError({
    code: "DDL_CAPTURE",
    verdict: "refuse",
    message: `the role of CDC_DATABASE_URL may not create event triggers, which only a superuser may (${describeError(cause)})`,
    advice: `${CURE}; or CDC_DDL=auto: then ${FALLBACK}`,
    cause,
  });
}
