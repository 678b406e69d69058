import { readFileSync } from "node:fs";
import { CascadeError } from "@cascade/shared/errors";
import { type Connection, type ConnectionConfig, createConnection, type UpsertResult } from "mariadb";
import type { SqlValue, Statement } from "../dialect.ts";
import { mysqlError } from "./mysql-errors.ts";

export type MysqlRow = Readonly<Record<string, unknown>>;

/** One connection to the replica, one transaction at a time. */
export interface MysqlSession extends AsyncDisposable {
  readonly isMariadb: boolean;
  /** Names of tables are compared without regard to case (lower_case_table_names). */
  readonly foldsTableNames: boolean;
  query(text: string, values?: readonly SqlValue[]): Promise<readonly MysqlRow[]>;
  /** Rows found, whether or not they were changed. */
  change(text: string, values: readonly SqlValue[]): Promise<number>;
  /** Runs the statement for every set of parameters, without a round trip for each; resolves to the rows found in all. */
  run(statement: Statement): Promise<number>;
  /** `work` in a transaction: committed when it resolves, rolled back when it rejects. Waits for whatever was asked before it. */
  transaction<T>(work: () => Promise<T>): Promise<T>;
  /** `work` alone on the connection. */
  exclusive<T>(work: () => Promise<T>): Promise<T>;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Past the server's own limit below: whoever is silent for so long is gone. */
const ANSWER_TIMEOUT_MS = 150_000;
const KEEPALIVE_DELAY_MS = 10_000;
const GOODBYE_TIMEOUT_MS = 1_000;
/** Each is given up when its answer takes too long: they are sent in portions. */
const MAX_QUERIES_AT_ONCE = 500;

/**
 * Strict, so that the server refuses what it would else round, truncate or make a default of; a key of 0 is no request for the next
 * number; texts and times as they are on the wire; foreign keys are the source's to enforce.
 */
const SETTINGS = [
  "sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'",
  "time_zone = '+00:00'",
  "foreign_key_checks = 0",
  "unique_checks = 1",
  "innodb_lock_wait_timeout = 1", // the other tables wait meanwhile
  "lock_wait_timeout = 10",
  "autocommit = 1",
  "completion_type = 'NO_CHAIN'",
  "sql_safe_updates = 0", // a TRUNCATE arrives as a DELETE of every row
  "sql_select_limit = 18446744073709551615", // the catalog is read with SELECT
  "sql_big_selects = 1",
  "transaction_isolation = 'READ-COMMITTED'",
];
const MARIADB_SETTINGS = ["max_statement_time = 120", "lc_messages = 'en_US'", "tx_isolation = 'READ-COMMITTED'"];
const MYSQL_SETTINGS = ["max_execution_time = 120000"];

export interface MysqlSessionOptions {
  /** For DDL, which may write a large table anew: waits for the server however long it takes. */
  readonly patient?: boolean;
}

/** A change waits for the transactions of others that were there before it. */
const PATIENT_SETTINGS = ["innodb_lock_wait_timeout = 10"];

/** Connects. Rejects with CascadeError: verdict refuse when the login is wrong, retry when nobody answers. */
export async function openMysqlSession(url: string, { patient = false }: MysqlSessionOptions = {}): Promise<MysqlSession> {
  let connection: Connection | undefined;
  try {
    connection = await createConnection(configOf(url));
    connection.on("error", () => {}); // a broken idle connection: the next query rejects anyway
    const isMariadb = connection.info?.isMariaDB() === true;
    checkVersion(connection, isMariadb);
    const settings = isMariadb
      ? [...SETTINGS.filter((setting) => !setting.startsWith("transaction_isolation")), ...MARIADB_SETTINGS]
      : [...SETTINGS, ...MYSQL_SETTINGS];
    if (patient) settings.push(...PATIENT_SETTINGS, ...(isMariadb ? ["max_statement_time = 0"] : []));
    for (const setting of settings) await connection.query(`SET SESSION ${setting}`);
    const [variables] = await connection.query<readonly MysqlRow[]>("SELECT @@lower_case_table_names AS folds");
    const answerTimeoutMs = patient ? null : ANSWER_TIMEOUT_MS;
    return sessionOver(connection, { isMariadb, foldsTableNames: Number(variables?.["folds"]) !== 0, answerTimeoutMs });
  } catch (error) {
    if (connection !== undefined) await close(connection);
    throw mysqlError(error, "connecting to the replica");
  }
}

function configOf(url: string): ConnectionConfig {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const ssl = searchParams.get("ssl");
  const ca = searchParams.get("ssl-ca");
  return {
    host: decodeURIComponent(hostname).replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? 3306 : Number(port),
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
    database: decodeURIComponent(pathname.slice(1)),
    ...(ca !== null ? { ssl: { ca: authority(ca) } } : {}),
    ...(ca === null && ssl !== null && ssl !== "false" ? { ssl: { rejectUnauthorized: ssl !== "no-verify" } } : {}),
    allowPublicKeyRetrieval: searchParams.get("allowPublicKeyRetrieval") === "true",
    charset: "utf8mb4",
    foundRows: true,
    dateStrings: true,
    bigIntAsNumber: false,
    decimalAsNumber: false,
    insertIdAsNumber: false,
    permitLocalInfile: false,
    logParam: false,
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: 0,
    keepAliveDelay: KEEPALIVE_DELAY_MS,
    connectAttributes: { program_name: "cascade shard-router" },
  };
}

function authority(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new CascadeError({
      code: "REPLICA_TLS",
      verdict: "refuse",
      message: `the file that ssl-ca in REPLICA_URL names cannot be read: ${path}`,
      advice: "name a file in PEM format that the router may read",
      cause: error,
    });
  }
}

/** What the dialects need: row aliases and exact collations. */
const OLDEST = { MariaDB: [10, 6, 0], MySQL: [8, 0, 19] } as const;

function checkVersion(connection: Connection, isMariadb: boolean): void {
  const name = isMariadb ? "MariaDB" : "MySQL";
  const oldest = OLDEST[name];
  if (connection.info?.hasMinVersion(oldest[0], oldest[1], oldest[2]) !== false) return;
  throw new CascadeError({
    code: "REPLICA_TOO_OLD",
    verdict: "refuse",
    message: `the replica's server is ${name} ${connection.serverVersion()}`,
    advice: `use ${name} ${oldest.join(".")} or newer`,
  });
}

/** A server that is gone does not say goodbye. */
async function close(connection: Connection): Promise<void> {
  const ended = await Promise.race([
    connection.end().then(
      () => true,
      () => false,
    ),
    Bun.sleep(GOODBYE_TIMEOUT_MS).then(() => false),
  ]);
  if (!ended) connection.destroy();
}

interface SessionFacts extends Pick<MysqlSession, "isMariadb" | "foldsTableNames"> {
  /** null: for ever. */
  readonly answerTimeoutMs: number | null;
}

function sessionOver(connection: Connection, { isMariadb, foldsTableNames, answerTimeoutMs }: SessionFacts): MysqlSession {
  let last: Promise<unknown> = Promise.resolve();
  /** Half-open connections would else hold a partition for ever. */
  const answered = async <T>(answer: Promise<T>): Promise<T> => {
    if (answerTimeoutMs === null) return answer;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        connection.destroy();
        reject(new Error("no answer in time"));
      }, answerTimeoutMs);
    });
    try {
      return await Promise.race([answer, silence]);
    } finally {
      clearTimeout(timer);
    }
  };
  const query: MysqlSession["query"] = (text, values = []) => answered(connection.query(text, [...values]));
  const change: MysqlSession["change"] = async (text, values) =>
    (await answered(connection.execute<UpsertResult>(text, [...values]))).affectedRows;
  const exclusive = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = last.then(work);
    last = mine.catch(() => {});
    return mine;
  };
  const inTransaction = async <T>(work: () => Promise<T>): Promise<T> => {
    const begun = connection.query("START TRANSACTION"); // not awaited: it travels with the first queries of `work`
    begun.catch(() => {});
    try {
      const result = await work();
      await begun;
      await answered(connection.query("COMMIT"));
      return result;
    } catch (error) {
      await answered(connection.query("ROLLBACK")).catch(() => {}); // a lost connection has rolled back already
      throw error;
    }
  };
  return {
    isMariadb,
    foldsTableNames,
    query,
    change,
    run: (statement) => run(connection, statement, answered),
    exclusive,
    transaction: (work) => exclusive(() => inTransaction(work)),
    [Symbol.asyncDispose]: async () => {
      await last;
      await close(connection);
    },
  };
}

async function run(
  connection: Connection,
  { text, parameterSets, onlyPipelined }: Statement,
  answered: <T>(answer: Promise<T>) => Promise<T>,
): Promise<number> {
  const sets = parameterSets as SqlValue[][];
  const [first] = sets;
  if (first === undefined) return 0;
  if (sets.length === 1) return (await answered(connection.execute<UpsertResult>(text, first))).affectedRows;
  if (onlyPipelined !== true) {
    return foundBy(await answered(connection.batch<UpsertResult | readonly UpsertResult[]>(text, sets)));
  }
  const prepared = await answered(connection.prepare(text));
  let found = 0;
  try {
    for (let at = 0; at < sets.length; at += MAX_QUERIES_AT_ONCE) {
      const portion = sets.slice(at, at + MAX_QUERIES_AT_ONCE);
      const results = await answered(Promise.allSettled(portion.map((values) => prepared.execute<UpsertResult>(values))));
      for (const result of results) {
        if (result.status === "rejected") throw result.reason;
        found += result.value.affectedRows;
      }
    }
    return found;
  } finally {
    prepared.close();
  }
}

/** One result for each packet of rows. */
function foundBy(results: UpsertResult | readonly UpsertResult[]): number {
  if (!Array.isArray(results)) return (results as UpsertResult).affectedRows;
  let found = 0;
  for (const { affectedRows } of results as readonly UpsertResult[]) found += affectedRows;
  return found;
}
