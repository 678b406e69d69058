import { randomUUID } from "node:crypto";
import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError, describeError } from "@cascade/shared/errors";
import { tlsErrorCode } from "@cascade/shared/tls-errors";
import pg from "pg";

/**
 * Settings that change the bytes wal2json writes (facts.md §1.4: `bytea_output=escape` corrupted data silently). A role's or database's
 * own defaults reach a walsender too, so every session pins them. `search_path` makes format_type qualify every type of a user's.
 */
export const PINNED_SETTINGS: Readonly<Record<string, string>> = {
  bytea_output: "hex",
  datestyle: "ISO",
  intervalstyle: "postgres",
  timezone: "UTC",
  extra_float_digits: "1",
  lc_monetary: "C",
  search_path: "pg_catalog",
  statement_timeout: "0",
};

/** This process's own: a standby that finds it frozen ends all of its sessions, and nobody else's. */
const APPLICATION_NAME = `cascade-cdc ${randomUUID().slice(0, 8)}`;

const CONNECT_TIMEOUT_MS = 10_000;

export interface ConnectOptions {
  /** Makes it a walsender. */
  readonly replication?: boolean;
  /** Further settings of the session. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Opens a connection to main-db. Rejects with a CascadeError. */
export async function connect(databaseUrl: string, options: ConnectOptions = {}): Promise<pg.Client> {
  const url = new URL(databaseUrl);
  const pinned = Object.entries({ ...PINNED_SETTINGS, ...options.settings });
  // Ours come last: the last one given wins.
  const settings = [
    url.searchParams.get("options") ?? "",
    ...pinned.map(([name, value]) => `-c ${name}=${value.replaceAll(" ", "\\ ")}`),
  ]
    .join(" ")
    .trim();
  url.searchParams.delete("options");
  // sslmode means what it means to every other client of PostgreSQL.
  if (url.searchParams.has("sslmode") && !url.searchParams.has("uselibpqcompat")) url.searchParams.set("uselibpqcompat", "true");
  const client = newClient({
    connectionString: url.toString(),
    options: settings,
    application_name: APPLICATION_NAME,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(options.replication ? { replication: "database" } : {}),
  } as pg.ClientConfig);
  // Without a listener a broken connection would end the process; who uses the client hears of it by the rejection of its query.
  client.on("error", () => undefined);
  noteErrors(client);
  try {
    await client.connect();
    return client;
  } catch (error) {
    await client.end().catch(() => undefined);
    throw postgresError(error, "cannot connect to main-db");
  }
}

/** What queries were rejected with: the driver's own errors are plain ones, told from ours by nothing else. */
const rejections = new WeakSet<object>();

function noteErrors(client: pg.Client): void {
  const query = client.query.bind(client) as (...args: unknown[]) => unknown;
  const noting = (...args: unknown[]): unknown => {
    const answer = query(...args);
    if (!(answer instanceof Promise)) return answer;
    return answer.catch((error: Error) => {
      if (!(error instanceof TypeError)) rejections.add(error);
      throw error;
    });
  };
  client.query = noting as typeof client.query;
}

/** The error of a query that nobody has judged: main-db's, and never a reason to end. Anything else is left as it is. */
export const unjudgedError = (error: unknown): unknown =>
  rejections.has(error as object) ? postgresError(error, "a query on main-db failed") : error;

/** The driver reads the files that the URL names. */
function newClient(config: pg.ClientConfig): pg.Client {
  try {
    return new pg.Client(config);
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    throw new CascadeError({
      code: "CONFIGURATION",
      verdict: "refuse",
      message: `CDC_DATABASE_URL cannot be used${path === undefined ? "" : `: file ${path} cannot be read`} (${code ?? "unknown reason"})`,
      advice: "correct the files that sslrootcert, sslcert and sslkey name in it",
    });
  }
}

const ANSWER_TIMEOUT_MS = 10_000;

/** Rejects with MAIN_DB_AWAY when the server does not answer: a stream that is silent for want of changes would not tell. */
export async function checkAnswers(client: pg.Client): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no answer for ${ANSWER_TIMEOUT_MS / 1_000} s`)), ANSWER_TIMEOUT_MS);
  const answered = client.query("SELECT 1");
  answered.catch(() => undefined); // when the deadline won
  try {
    await Promise.race([answered, late]);
  } catch (error) {
    throw postgresError(error, "main-db gives no sign of life");
  } finally {
    clearTimeout(timer);
  }
}

/** A session that ends with its scope. */
export interface Session extends AsyncDisposable {
  readonly client: pg.Client;
}

const GOODBYE_TIMEOUT_MS = 1_000;

export async function openSession(databaseUrl: string, settings: ConnectOptions["settings"] = {}): Promise<Session> {
  const client = await connect(databaseUrl, { settings });
  return { client, [Symbol.asyncDispose]: () => disconnect(client) };
}

/** A server that is gone or frozen does not say goodbye. */
export async function disconnect(client: pg.Client): Promise<void> {
  await Promise.race([client.end().catch(() => undefined), Bun.sleep(GOODBYE_TIMEOUT_MS)]);
}

export async function databaseName(client: pg.Client): Promise<string> {
  try {
    return (await client.query<{ name: string }>("SELECT current_database() AS name")).rows[0]?.name ?? "";
  } catch (error) {
    throw postgresError(error, "cannot ask main-db for its name");
  }
}

/** SQLSTATE of an error of the server, null for anything else. */
export function sqlStateOf(error: unknown): string | null {
  const code = error instanceof Error && "code" in error ? error.code : null;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : null;
}

/** SQLSTATE of an option that the plugin does not know, among others. */
export const INVALID_PARAMETER = "22023";
/** SQLSTATE of a right that the role lacks. */
export const INSUFFICIENT_PRIVILEGE = "42501";
/** SQLSTATE of a write on a standby. */
export const READ_ONLY = "25006";
/** SQLSTATE of a slot that another session reads. */
export const OBJECT_IN_USE = "55006";
/** SQLSTATE of a slot that is invalid, and of a server whose WAL level is too low. */
export const OBJECT_NOT_READY = "55000";

interface Judgement {
  readonly code: ErrorCode;
  readonly verdict: "retry" | "refuse";
  readonly advice: string;
}

export const SLOT_ACTIVE_ADVICE = "nothing to do when it is meant as a standby: this cdc takes over when the other one goes";

/** By SQLSTATE, longest prefix first; never by message text. */
export const MAIN_DB_JUDGEMENTS: readonly (readonly [string, Judgement])[] = [
  [
    "28",
    {
      code: "LOGIN_REFUSED",
      verdict: "refuse",
      advice: "check user and password in CDC_DATABASE_URL, and that pg_hba.conf allows this host",
    },
  ],
  [
    "3D000",
    { code: "NO_SUCH_DATABASE", verdict: "refuse", advice: "create the database, or name the right one in CDC_DATABASE_URL" },
  ],
  [
    INSUFFICIENT_PRIVILEGE,
    {
      code: "MISSING_RIGHT",
      verdict: "refuse",
      advice:
        "grant it: ALTER ROLE <user> REPLICATION; when the message names output_plugin_libraries, add wal2json to it: ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json; SELECT pg_reload_conf();",
    },
  ],
  [
    "58P01",
    {
      code: "PLUGIN_MISSING",
      verdict: "refuse",
      advice: "install wal2json on main-db's host (Debian: postgresql-<major>-wal2json)",
    },
  ],
  [
    OBJECT_NOT_READY,
    {
      code: "NOT_READY_FOR_LOGICAL",
      verdict: "refuse",
      advice: "set wal_level = logical on main-db and restart it; when the slot was invalidated, the next start tells its cure",
    },
  ],
  [
    "53400",
    {
      code: "SLOTS_EXHAUSTED",
      verdict: "refuse",
      advice: "raise max_replication_slots on main-db, or drop a slot that nobody uses",
    },
  ],
  [
    OBJECT_IN_USE,
    {
      code: "SLOT_ACTIVE",
      verdict: "retry",
      advice: SLOT_ACTIVE_ADVICE,
    },
  ],
  ["42704", { code: "SLOT_MISSING", verdict: "retry", advice: "the slot is gone; cdc looks again" }],
];

const AWAY: Judgement = {
  code: "MAIN_DB_AWAY",
  verdict: "retry",
  advice: "cdc tries again until main-db answers; if it runs, check host, port and sslmode in CDC_DATABASE_URL",
};

/** Connection exceptions, too many connections, shutting down or starting up. */
const AWAY_STATES = ["08", "53300", "57P"];

const SERVER_ERROR: Judgement = {
  code: "MAIN_DB_ERROR",
  verdict: "retry",
  advice:
    "look the SQLSTATE up in PostgreSQL's documentation (appendix A) and in main-db's log; cdc tries again. When one transaction cannot be decoded (out of memory in wal2json: a row whose JSON passes 1 GB), only moving the slot past it helps, and its changes are lost: SELECT pg_replication_slot_advance(...)",
};

const TLS: Judgement = {
  code: "MAIN_DB_TLS",
  verdict: "refuse",
  advice:
    "check CDC_DATABASE_URL: ?sslmode=verify-full&sslrootcert=FILE wants a certificate of this authority and of that host name, verify-ca of any name, require any certificate at all",
};

function judgementOf(state: string | null): Judgement {
  if (state === null || AWAY_STATES.some((prefix) => state.startsWith(prefix))) return AWAY;
  return MAIN_DB_JUDGEMENTS.find(([prefix]) => state.startsWith(prefix))?.[1] ?? SERVER_ERROR;
}

/** An error of pg or of the server as a CascadeError. */
export function postgresError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  const judgement = tlsErrorCode(error) === null ? judgementOf(sqlStateOf(error)) : TLS;
  return new CascadeError({ ...judgement, message: `${doing}: ${describeError(error)}`, cause: error });
}
