import { CascadeError, type Verdict } from "@cascade/shared/errors";
import { SqlError } from "mariadb";

interface Rule {
  readonly code: string;
  readonly verdict: Verdict;
  readonly advice: string;
}

const away: Rule = {
  code: "REPLICA_UNAVAILABLE",
  verdict: "retry",
  advice: "nothing to do here: the router tries again until the replica answers; look at its server and the network",
};
const full: Rule = {
  code: "REPLICA_FULL",
  verdict: "retry",
  advice: "give the replica's server room (disk, memory, connections): the router tries again",
};
const conflict: Rule = { code: "REPLICA_CONFLICT", verdict: "retry", advice: "nothing to do: the transaction is tried again" };
const locked: Rule = {
  code: "REPLICA_LOCKED",
  verdict: "stop-table", // the other tables need not wait for it
  advice: "another session of the replica holds a lock on the table: see SHOW ENGINE INNODB STATUS; the table is tried again",
};
const tooSlow: Rule = {
  code: "REPLICA_TIMEOUT",
  verdict: "stop-table",
  advice:
    "a statement took longer than 120 s or was killed: see what else the replica is busy with; a table without a key is searched for every row that changes (give it one); the table is tried again with fewer rows",
};
const login: Rule = {
  code: "REPLICA_LOGIN_REFUSED",
  verdict: "refuse",
  advice: "check user, password and database in REPLICA_URL, and from where the user may connect",
};
const noRight: Rule = {
  code: "REPLICA_RIGHT_MISSING",
  verdict: "stop-table",
  advice: "grant the user of REPLICA_URL what the message says is missing; the table goes on by itself",
};
const noTable: Rule = {
  code: "REPLICA_TABLE_MISMATCH",
  verdict: "stop-table",
  advice: "table or column was changed on the replica: restore it, or drop the table so that it is made anew from a snapshot",
};
const badTable: Rule = {
  code: "UNSUPPORTED_TABLE",
  verdict: "stop-table",
  advice:
    "MySQL cannot make a table like it: make one yourself whose columns are shorter (VARCHAR instead of LONGTEXT) or fewer, or exclude it (ROUTER_TABLES)",
};
const badValue: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice:
    "the replica's column cannot hold a value of the source: make it longer or wider, or LONGTEXT, which holds every value but bytea's in PostgreSQL's text form",
};
const tooBig: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice: "a row is larger than the replica's max_allowed_packet: raise it (at most 1 GB) and restart the router",
};
const constraint: Rule = {
  code: "CONSTRAINT_VIOLATED",
  verdict: "stop-table",
  advice:
    "the replica has a constraint that the source's rows do not meet: drop it, or mend the rows of the replica that it names",
};
const readOnly: Rule = {
  code: "REPLICA_READ_ONLY",
  verdict: "retry",
  advice: "REPLICA_URL leads to a server that takes no writes (a standby?): let it lead to the primary; the router tries again",
};
const damaged: Rule = {
  code: "REPLICA_DAMAGED",
  verdict: "fatal",
  advice: "the replica's server reports damaged data: look at its log before anything else writes to it",
};
const unexpected: Rule = {
  code: "REPLICA_ERROR",
  verdict: "stop-table",
  advice: "look the number up in the server's list of error codes and in the replica's server log; the table is tried again",
};

const numbers = (rule: Rule, ...errnos: readonly number[]): readonly (readonly [number, Rule])[] =>
  errnos.map((errno) => [errno, rule]);

/** By error number: the servers' below 45,000 (MySQL's and MariaDB's agree up to 1,900), the connector's above. */
const RULES: ReadonlyMap<number, Rule> = new Map([
  ...numbers(away, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 3169, 4031),
  ...numbers(full, 1021, 1037, 1038, 1040, 1041, 1114, 1203, 1226, 1135),
  ...numbers(conflict, 1213, 1614, 1020),
  ...numbers(locked, 1205, 1099, 3572),
  ...numbers(tooSlow, 1317, 1969, 3024),
  ...numbers(login, 1044, 1045, 1049, 1130, 1251, 1524, 1698, 1862, 3118, 3159),
  ...numbers(noRight, 1142, 1143, 1227, 1370, 1419),
  ...numbers(noTable, 1054, 1146, 1364, 1136, 1347, 1906, 3105),
  ...numbers(badTable, 1059, 1060, 1070, 1071, 1074, 1103, 1117, 1118, 1166, 1709),
  ...numbers(badValue, 1264, 1265, 1292, 1366, 1367, 1406, 1411, 1690, 3140, 3988),
  ...numbers(tooBig, 1153, 1301, 45_016),
  ...numbers(constraint, 1022, 1048, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1644, 3819, 4025),
  ...numbers(readOnly, 1036, 1290, 1792, 1836),
  ...numbers(damaged, 1034, 1035, 1194, 1195, 1712, 1877),
]);

/** SQLSTATE classes of the connection, and of logins, for numbers that are not in the table. */
const CLASSES: Readonly<Record<string, Rule>> = { "08": away, "28": login };

/** The connector's own numbers: everything it says by itself is about the connection, but for a packet that is too large. */
const FIRST_OF_CONNECTOR = 45_000;

const errnoOf = (error: SqlError): number => error.errno ?? 0;

function ruleOf(error: SqlError): Rule {
  const errno = errnoOf(error);
  const known = RULES.get(errno);
  if (known !== undefined) return known;
  if (errno >= FIRST_OF_CONNECTOR || errno <= 0) return away;
  return CLASSES[(error.sqlState ?? "").slice(0, 2)] ?? unexpected;
}

/** A unique value may still be on its way from another row of the same batch: in order, the changes may well pass. */
export const isConstraintError = (error: unknown): boolean => error instanceof SqlError && ruleOf(error) === constraint;

/** What the driver throws of its own accord may be a plain Error; these come from code that is wrong, and no retry mends it. */
const BUGS = [TypeError, RangeError, ReferenceError, SyntaxError];

/** What the server or the connection to it says, as an error of ours. */
export function mysqlError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  if (BUGS.some((bug) => error instanceof bug)) throw error;
  if (!(error instanceof SqlError)) {
    return new CascadeError({ ...away, message: `${doing}: no answer from the replica`, cause: error });
  }
  const rule = ruleOf(error);
  // The connector's message holds the statement with its parameters; its cause would show them too.
  const said = rule === away ? "no answer from the replica" : explain(error);
  return new CascadeError({
    ...rule,
    message: `${doing}: ${said} (error ${errnoOf(error)}, SQLSTATE ${error.sqlState ?? "none"})`,
  });
}

/**
 * The server's words without a row's values, which stand in quotes: those of names are kept, by the words before them. What people's own
 * triggers say (SIGNAL) can be anything.
 */
function explain(error: SqlError): string {
  if (errnoOf(error) === 1644 || error.sqlState === "45000") return "a trigger of the replica raised an error";
  const message = error.sqlMessage ?? "";
  if (errnoOf(error) === NULL_REFUSED) return `${message} (of a key's column: another row has a unique value of this one)`;
  const names = [
    ...message.matchAll(
      /\b(?:key|column|table|constraint|user|database|Field|for) [`'"]([^`'"]*)[`'"](?:\.[`'"]([^`'"]*)[`'"])*/gi,
    ),
  ];
  const kept = VALUES_IN_MESSAGE.has(errnoOf(error))
    ? [message.slice(0, Math.max(0, message.search(/[`'":]/))).trim(), ...names.map(([name]) => name)].join(" … ")
    : message;
  return kept === "" ? "the replica refused it" : kept;
}

/** Also how an upsert refuses to act on another row: putWriter in dialects/mysql.ts. */
const NULL_REFUSED = 1048;

/** Their messages quote what was to be stored. */
const VALUES_IN_MESSAGE: ReadonlySet<number> = new Set([1062, 1169, 1265, 1292, 1366, 1367, 1411, 1557, 1586, 1690, 3140, 3988]);
