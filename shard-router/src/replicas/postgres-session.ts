import type { Socket } from "node:net";
import { Client, type ClientConfig, DatabaseError, type QueryResult } from "pg";
import type { SqlValue } from "../dialect.ts";
import { noPassword, postgresError } from "./postgres-errors.ts";

/** One statement on its way to the server. */
export interface Query {
  readonly text: string;
  readonly values?: readonly SqlValue[];
  /** May take as long as it takes: a table is written anew. */
  readonly patient?: true;
}

export type Answer = QueryResult<Record<string, unknown>>;

/** One connection to the replica, one transaction at a time. */
export interface PostgresSession extends AsyncDisposable {
  /**
   * Sends the queries at once and resolves with all their answers. Rejects with the first error, when every query has been answered:
   * in a transaction those after it did nothing.
   */
  run(queries: readonly Query[]): Promise<readonly Answer[]>;
  /** `work` in a transaction: committed when it resolves, rolled back when it rejects. Waits for the transaction before it. */
  transaction<T>(work: () => Promise<T>): Promise<T>;
  readonly findings: readonly string[];
}

const CONNECT_TIMEOUT_MS = 10_000;
/** Past the server's own limits below: whoever is silent for so long is gone. */
const ANSWER_TIMEOUT_MS = 150_000;
const PATIENT_TIMEOUT_MS = 24 * 3_600_000;
const KEEPALIVE_DELAY_MS = 10_000;
const GOODBYE_TIMEOUT_MS = 1_000;

/**
 * The text forms the wire format has; limits that end a wait on either side, so that neither a lock nor a half-open connection holds a
 * partition for ever; and plans that always find rows by the key's index, whatever the statistics said when they were made.
 * synchronous_commit: a crash of the server may lose the last commits, rows and progress together, and Kafka still has them
 * (docs/decisions/0012; PostgreSQL's own subscriptions do the same).
 */
const SETTINGS: Readonly<Record<string, string>> = {
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  datestyle: "ISO",
  intervalstyle: "postgres",
  timezone: "UTC",
  lc_monetary: "C",
  extra_float_digits: "1",
  bytea_output: "hex",
  xmloption: "content",
  default_transaction_isolation: "read committed",
  default_transaction_read_only: "off",
  row_security: "off", // an error instead of rows that a policy hides from us, and that would stay as they are
  lock_timeout: "1s", // the other tables wait meanwhile
  statement_timeout: "120s",
  idle_in_transaction_session_timeout: "60s",
  tcp_keepalives_idle: "10",
  tcp_keepalives_interval: "5",
  tcp_keepalives_count: "4",
  tcp_user_timeout: "30s",
  synchronous_commit: "off",
  jit: "off", // a plan whose scan is disabled costs enough to be compiled
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
};

/** Beyond these, texts are parsed every time instead of filling the server's memory. */
const MAX_PREPARED = 512;

/** Connects. Rejects with CascadeError: verdict refuse when the login is wrong, retry when nobody answers. */
export async function openPostgresSession(url: string): Promise<PostgresSession> {
  const client = new Client(configOf(url));
  // Without a listener a broken idle connection would end the process; the next query rejects anyway.
  client.on("error", () => {});
  if (!client.password) Object.assign(client, { password: passwordAsked });
  try {
    await client.connect();
    await Promise.all(Object.entries(SETTINGS).map(([name, value]) => client.query(`SET ${name} = '${value}'`)));
    return sessionOver(client, [
      ...(await becomeReplicationRole(client)),
      ...(await encodingFindings(client)),
      ...(await triggerFindings(client)),
    ]);
  } catch (error) {
    await close(client);
    throw postgresError(error, "connecting to the replica");
  }
}

/** The driver calls it when the server wants a password; by itself it would only say what type a password has. */
function passwordAsked(): never {
  throw noPassword();
}

/** A server that is gone does not say goodbye. */
async function close(client: Client): Promise<void> {
  await Promise.race([client.end().catch(() => {}), Bun.sleep(GOODBYE_TIMEOUT_MS)]);
}

function configOf(url: string): ClientConfig {
  const target = new URL(url);
  // sslmode means what it means to every other client of PostgreSQL.
  if (target.searchParams.has("sslmode") && !target.searchParams.has("uselibpqcompat")) {
    target.searchParams.set("uselibpqcompat", "true");
  }
  if (!target.searchParams.has("application_name")) target.searchParams.set("application_name", "cascade shard-router");
  return {
    connectionString: target.href,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
    pipeline: true,
  } as ClientConfig & { readonly pipeline: boolean };
}

/** Keeps the replica's triggers and foreign keys from acting on rows that the source has already judged. */
async function becomeReplicationRole(client: Client): Promise<readonly string[]> {
  try {
    await client.query("SET session_replication_role = replica");
    return [];
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== "42501") throw error;
    return [
      `role ${client.user ?? "of REPLICA_URL"} may not set session_replication_role: triggers and foreign keys of the replica's tables act on replicated rows. ` +
        `On PostgreSQL 15 and later: GRANT SET ON PARAMETER session_replication_role TO "${client.user ?? "role"}"; before, use a superuser; or drop them`,
    ];
  }
}

/** Those that fire even for the replication role. */
async function triggerFindings(client: Client): Promise<readonly string[]> {
  const { rows } = await client.query<{ name: string; of: string }>(
    "SELECT tgname AS name, tgrelid::regclass::text AS of FROM pg_trigger WHERE tgenabled IN ('A', 'R') AND NOT tgisinternal ORDER BY 1, 2",
  );
  return rows.map(
    ({ name, of }) =>
      `trigger ${name} of the replica's table ${of} is enabled for replicated rows too, and may change or drop them: ALTER TABLE ${of} ENABLE TRIGGER ${name} unless that is wanted`,
  );
}

async function encodingFindings(client: Client): Promise<readonly string[]> {
  const { rows } = await client.query<{ server_encoding: string }>("SHOW server_encoding");
  const encoding = rows[0]?.server_encoding;
  if (encoding === "UTF8") return [];
  return [
    `the replica's database is encoded in ${encoding}: a text with other characters stops its table. ` +
      "Make the database anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
  ];
}

/** The part of pg's client that @types/pg leaves out. */
interface Connected {
  readonly connection: { readonly stream: Pick<Socket, "cork" | "uncork"> };
}

function sessionOver(client: Client, findings: readonly string[]): PostgresSession {
  const names = new Map<string, string>();
  let last: Promise<unknown> = Promise.resolve();
  const send = ({ text, values, patient }: Query): Promise<Answer> => {
    if (patient) return client.query({ text, query_timeout: PATIENT_TIMEOUT_MS } as { text: string });
    if (values === undefined || values.length === 0) return client.query(text);
    let name = names.get(text);
    if (name === undefined && names.size < MAX_PREPARED) {
      name = `c${names.size}`;
      names.set(text, name);
    }
    return client.query({ text, values: values as unknown[], ...(name === undefined ? {} : { name }) });
  };
  const { stream } = (client as unknown as Connected).connection;
  /** What is sent from here to the next turn goes out in one write: each one wakes the server up, and costs more than a small batch's rows. */
  const together = (): void => {
    stream.cork();
    process.nextTick(() => stream.uncork());
  };
  const run = async (queries: readonly Query[]): Promise<readonly Answer[]> => {
    together();
    const answers = await Promise.allSettled(queries.map(send));
    return answers.map((answer) => {
      if (answer.status === "rejected") throw answer.reason;
      return answer.value;
    });
  };
  const inTransaction = async <T>(work: () => Promise<T>): Promise<T> => {
    together();
    const begun = client.query("BEGIN"); // not awaited: it travels with the first queries of `work`, and fails only with the connection
    begun.catch(() => {});
    try {
      const result = await work();
      await begun;
      const { command } = await client.query("COMMIT");
      if (command !== "COMMIT") throw new Error(`COMMIT was answered with ${command}`);
      return result;
    } catch (error) {
      await client.query("ROLLBACK").catch(() => {}); // a lost connection has rolled back already
      throw error;
    }
  };
  return {
    run,
    findings,
    transaction: (work) => {
      const mine = last.then(() => inTransaction(work));
      last = mine.catch(() => {});
      return mine;
    },
    [Symbol.asyncDispose]: async () => {
      await last;
      await close(client);
    },
  };
}
