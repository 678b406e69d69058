import { CascadeError } from "@cascade/shared/errors";
import { tlsErrorCode } from "@cascade/shared/tls-errors";
import { SqlError } from "mariadb";
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

const changed = changedTable("cascade_progress");
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
const tls: Rule = {
  code: "REPLICA_TLS",
  verdict: "refuse",
  advice:
    "check REPLICA_URL: ?ssl=true wants a certificate of a known authority, ?ssl-ca=FILE one of this authority, ?ssl=no-verify encrypts without asking who answers; the server must have TLS (SHOW VARIABLES LIKE 'have_ssl')",
};
const noRight: Rule = {
  code: "REPLICA_RIGHT_MISSING",
  verdict: "stop-table",
  advice: "grant the user of REPLICA_URL what the message says is missing; the table goes on by itself",
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
const unexpected: Rule = {
  code: "REPLICA_ERROR",
  verdict: "stop-table",
  advice: "look the number up in the server's list of error codes and in the replica's server log; the table is tried again",
};

const numbers = (rule: Rule, ...errnos: readonly number[]): readonly (readonly [number, Rule])[] =>
  errnos.map((errno) => [errno, rule]);

/** By error number: the servers' below 45,000 (MySQL's and MariaDB's agree up to 1,900), the connector's above. */
export const MYSQL_RULES: ReadonlyMap<number, Rule> = new Map([
  ...numbers(away, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 3169, 4031),
  ...numbers(serverFull, 1021, 1037, 1038, 1040, 1041, 1114, 1203, 1226, 1135),
  ...numbers(conflict, 1213, 1614, 1020),
  ...numbers(locked, 1205, 1099, 3572),
  ...numbers(tooSlow, 1317, 1969, 3024),
  ...numbers(login, 1044, 1045, 1049, 1130, 1251, 1524, 1698, 1820, 1862, 3118, 3159, 4151),
  ...numbers(tls, 45_023, 45_056, 45_057, 45_059, 45_062, 45_063, 45_064),
  ...numbers(noRight, 1142, 1143, 1227, 1370, 1419),
  ...numbers(changed, 1054, 1146, 1364, 1136, 1347, 1906, 3105),
  ...numbers(badTable, 1059, 1060, 1070, 1071, 1074, 1103, 1117, 1118, 1166, 1709),
  ...numbers(badValue, 1264, 1265, 1292, 1366, 1367, 1406, 1411, 1690, 3140, 3988),
  ...numbers(tooBig, 1153, 1301, 45_016),
  ...numbers(constraint, 1022, 1048, 1062, 1169, 1216, 1217, 1242, 1451, 1452, 1557, 1586, 3819, 4025),
  ...numbers(functionFailed, 1644),
  ...numbers(readOnly, 1036, 1290, 1792, 1836),
  ...numbers(damagedServer, 1034, 1035, 1194, 1195, 1712, 1877),
]);

/** By the SQLSTATE's class, for numbers that are not in the table; HY, the general one, says nothing. */
export const MYSQL_CLASSES: Readonly<Record<string, Rule>> = {
  "08": away,
  "28": login,
  "3D": login,
  "40": conflict,
  XA: conflict,
  "25": conflict,
  "70": tooSlow,
  "42": changed,
  "22": badValue,
  "21": constraint,
  "23": constraint,
  "44": constraint,
  "45": functionFailed, // SIGNAL
  "2F": functionFailed,
  "38": functionFailed,
  "39": functionFailed,
};

/** The connector's own numbers: everything it says by itself is about the connection, but for a packet that is too large. */
const FIRST_OF_CONNECTOR = 45_000;

const errnoOf = (error: SqlError): number => error.errno ?? 0;

function ruleOf(error: SqlError): Rule {
  const errno = errnoOf(error);
  const known = MYSQL_RULES.get(errno);
  if (known !== undefined) return known;
  if (errno >= FIRST_OF_CONNECTOR || errno <= 0) return away;
  return MYSQL_CLASSES[(error.sqlState ?? "").slice(0, 2)] ?? unexpected;
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
    const code = tlsErrorCode(error);
    if (code !== null) return new CascadeError({ ...tls, message: `${doing}: ${code}` });
    return new CascadeError({ ...away, message: `${doing}: no answer from the replica`, cause: error });
  }
  const rule = ruleOf(error);
  // The connector's message holds the statement with its parameters; its cause would show them too.
  const said = rule === away ? "no answer from the replica" : rule === tls ? "no encrypted connection" : explain(error);
  return new CascadeError({
    ...rule,
    message: `${doing}: ${said} (error ${errnoOf(error)}, SQLSTATE ${error.sqlState ?? "none"})`,
  });
}

/** The server's words without a row's values. What people's own triggers say (SIGNAL) can be anything. */
function explain(error: SqlError): string {
  if (errnoOf(error) === 1644 || error.sqlState === "45000") return "a trigger of the replica raised an error";
  const message = error.sqlMessage ?? "";
  if (UPSERT_REFUSED.has(errnoOf(error))) return `${message} (of a key's column: another row has a unique value of this one)`;
  const mayHoldValue = ruleOf(error) === unexpected || VALUES_IN_MESSAGE.has(errnoOf(error));
  const kept = mayHoldValue ? withoutValue(message) : message;
  return kept === "" ? "the replica refused it" : kept;
}

/** The words before the first value or name, and the name at the very end: whatever stands between may be of a value. */
function withoutValue(message: string): string {
  const end = message.search(/[`'":\d]/);
  const [name] = /(?<=\bfor )(?:key|column) (?:[`'"][^`'"]*[`'"]\.?)+(?= at row \d+$|$)/i.exec(message) ?? [];
  const words = end === -1 ? message : message.slice(0, end).trim();
  return name === undefined ? words : `${words} … ${name}`;
}

/** How an upsert refuses to act on another row: putWriter in dialects/mysql.ts. */
const UPSERT_REFUSED: ReadonlySet<number> = new Set([1048, 1242]);

/** Their messages quote what was to be stored. */
const VALUES_IN_MESSAGE: ReadonlySet<number> = new Set([1062, 1169, 1265, 1292, 1366, 1367, 1411, 1557, 1586, 1690, 3140, 3988]);
