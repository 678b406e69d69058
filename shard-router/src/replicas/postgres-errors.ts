import { CascadeError } from "@cascade/shared/errors";
import { tlsErrorCode } from "@cascade/shared/tls-errors";
import { DatabaseError } from "pg";
import {
  away,
  changedTable,
  conflict,
  constraint,
  damagedServer,
  functionFailed,
  type Rule,
  readOnly,
  serverFull,
} from "./error-rules.ts";

const changed = changedTable("cascade.progress");
const locked: Rule = {
  code: "REPLICA_LOCKED",
  verdict: "stop-table", // the other tables need not wait for it
  advice: "another session of the replica holds a lock on the table: see pg_locks; the table is tried again",
};
const tooSlow: Rule = {
  code: "REPLICA_TIMEOUT",
  verdict: "stop-table",
  advice:
    "a statement took longer than 120 s or was cancelled: see what else the replica is busy with; a table without a key is searched for every row that changes (give it one); the table is tried again with fewer rows",
};
const login: Rule = {
  code: "REPLICA_LOGIN_REFUSED",
  verdict: "refuse",
  advice: "check user, password and database in REPLICA_URL, and the replica's pg_hba.conf",
};
const tls: Rule = {
  code: "REPLICA_TLS",
  verdict: "refuse",
  advice:
    "check REPLICA_URL: ?sslmode=verify-full&sslrootcert=FILE wants a certificate of this authority and of that host name, verify-ca of any name, require any certificate at all",
};
const noRight: Rule = {
  code: "REPLICA_RIGHT_MISSING",
  verdict: "stop-table",
  advice: "grant the role of REPLICA_URL what the message says is missing; the table goes on by itself",
};
const badValue: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice: "the replica's column cannot hold a value of the source: give it the source's type, or a wider one",
};
const badEncoding: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice:
    "the encoding of the replica's database lacks a character of the source: make the database anew with ENCODING 'UTF8', or exclude the table (ROUTER_TABLES)",
};
const inUse: Rule = {
  code: "REPLICA_TABLE_IN_USE",
  verdict: "stop-table",
  advice:
    "something of the replica's own (a view, a constraint, a default) depends on what main-db has changed or dropped: drop it, and make it again when the table has changed; the table goes on by itself",
};
const unexpected: Rule = {
  code: "REPLICA_ERROR",
  verdict: "stop-table",
  advice:
    "look the SQLSTATE up in PostgreSQL's documentation (appendix A) and in the replica's server log; the table is tried again",
};

/** By SQLSTATE, exact codes before classes (the first two characters). Every class that PostgreSQL has is here. */
export const POSTGRES_RULES: Readonly<Record<string, Rule>> = {
  // The connection, the server, its room
  "08": away,
  "57": away, // operator intervention: shutdown, crash, cannot connect now
  "57014": tooSlow, // query_canceled: by statement_timeout, or by somebody
  "28": login,
  "3D": login,
  "53": serverFull,
  "58": serverFull, // outside PostgreSQL: I/O
  XX001: damagedServer,
  XX002: damagedServer,
  // Other sessions
  "40": conflict,
  "25": conflict, // e.g. idle-in-transaction timeout: the session is gone
  "25006": readOnly,
  "72": conflict, // snapshot too old
  "55": locked, // object in use, lock not available
  // What the replica's table is, and what of its own stands in the way
  "3F": changed,
  "42": changed,
  "42501": noRight,
  "0L": noRight,
  "0P": noRight,
  "0A": inUse, // a column that a view uses cannot be altered
  "2B": inUse, // dependent objects still exist
  "09": functionFailed,
  "27": functionFailed,
  "2F": functionFailed,
  "38": functionFailed,
  "39": functionFailed,
  P0: functionFailed,
  // Values
  "22": badValue,
  "22P05": badEncoding,
  "54": badValue, // program limits: a row too large for its index
  "21": constraint,
  "23": constraint,
  "44": constraint,
  // No statement of ours comes to these, or they say nothing by themselves
  ...Object.fromEntries(
    ["00", "01", "02", "03", "0B", "0F", "0Z", "10", "20", "24", "26", "2D", "34", "3B", "F0", "HV", "XX"].map((of) => [
      of,
      unexpected,
    ]),
  ),
};

/** A unique value may still be on its way from another row of the same batch: in order, the changes may well pass. */
export function isConstraintError(error: unknown): boolean {
  return error instanceof DatabaseError && (error.code?.startsWith("23") === true || error.code === "21000");
}

/** What the driver throws of its own accord is a plain Error; these come from code that is wrong, and no retry mends it. */
const BUGS = [TypeError, RangeError, ReferenceError, SyntaxError];

/** What PostgreSQL or the connection to it says, as an error of ours. `doing` and `table` are for the reader. */
export function postgresError(error: unknown, doing: string, table?: string): CascadeError {
  if (error instanceof CascadeError) return error;
  const place = table === undefined ? doing : `${doing} of table ${table}`;
  if (BUGS.some((bug) => error instanceof bug)) throw error;
  const unencrypted = tlsErrorCode(error);
  if (unencrypted !== null) return new CascadeError({ ...tls, message: `${place}: no encrypted connection (${unencrypted})` });
  if (!(error instanceof DatabaseError) || error.code === undefined) {
    // Not from the server: the connection. Whether a COMMIT on its way was carried out, the progress will tell.
    return new CascadeError({ ...away, message: `${place}: no answer from the replica`, cause: error });
  }
  const rule = POSTGRES_RULES[error.code] ?? POSTGRES_RULES[error.code.slice(0, 2)] ?? unexpected;
  return new CascadeError({ ...rule, message: `${place}: ${explain(error)} (SQLSTATE ${error.code})` });
}

/**
 * The server's words without a row's values: those stand in the detail, which is left out, and in messages about values (class 22),
 * after a quote of whatever kind the server's language has. What people's own functions and triggers say can be anything, under whatever SQLSTATE they choose.
 */
function explain(error: DatabaseError): string {
  const names = [
    ["constraint", error.constraint],
    ["column", error.column],
    ["type", error.dataType],
  ].flatMap(([kind, name]) => (name === undefined ? [] : [`${kind} ${name}`]));
  const code = error.code ?? "";
  const message =
    code.startsWith("P0") || error.routine === PLPGSQL_RAISE
      ? "a function of the replica raised an error"
      : code.startsWith("22")
        ? upToQuote(error.message)
        : error.message;
  return [message, ...names].join(", ");
}

const upToQuote = (message: string): string =>
  message.replace(/["'«»„“”‚‘’‹›「『].*/s, "…").replace(/byte sequence (?:0x[0-9a-f]{2} ?)+/, "byte sequence … ");

/** Where in the server's source a PL/pgSQL RAISE comes from. */
const PLPGSQL_RAISE = "exec_stmt_raise";

export const noPassword = (): CascadeError =>
  new CascadeError({ ...login, message: "connecting to the replica: its server asks for a password, and there is none" });
