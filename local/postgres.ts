import { join, resolve } from "node:path";
import { Client } from "pg";
import { onFreePort } from "./ports.ts";
import {
  type Primary,
  prepareData,
  type Settings,
  serverEnvironment,
  settingsFor,
  standbySettings,
  superuser,
} from "./postgres-data.ts";
import { findPostgres, type PostgresInstall } from "./postgres-install.ts";
import { type Server, serverOf } from "./server.ts";
import { serverFolder, serverUser } from "./server-user.ts";
import { until } from "./wait.ts";

export interface LocalPostgres extends Server {
  readonly port: number;
  /** Where it keeps its data: not always the folder asked for, see `serverFolder`. */
  readonly dir: string;
  readonly majorVersion: number;
  /** The superuser's URL of a database. */
  url(database: string): string;
  /** Makes an empty database, dropping one of that name first, and returns its URL. */
  createDatabase(name: string): Promise<string>;
  /** Whoever is connected to it, and whatever slot reads from it. */
  dropDatabase(name: string): Promise<void>;
  /** Runs SQL as superuser on a connection of its own. Several statements are one transaction, and return no rows. */
  query(database: string, sql: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
}

export interface PostgresOptions {
  readonly dir: string;
  /** A free one when left out. */
  readonly port?: number;
  readonly settings?: Settings;
  /** For servers whose data nobody wants back: the folder goes with an owner that was killed. */
  readonly removeWhenOrphaned?: boolean;
  /** The newest one that is installed when left out. */
  readonly install?: PostgresInstall;
  /** Begins as a copy of this server, and follows it until it is promoted. */
  readonly standbyOf?: Primary;
}

/** A real PostgreSQL with wal2json, reachable on the loopback interface alone. Resolves when it answers queries. */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const install = options.install ?? findPostgres();
  if (install === null) throw new Error("No PostgreSQL with wal2json is installed: run `bun local/setup.ts`.");
  return onFreePort(options.port, async (port) => {
    const postgres = localPostgres(install, port, options);
    await postgres.start();
    return postgres;
  });
}

function localPostgres(install: PostgresInstall, port: number, options: PostgresOptions): LocalPostgres {
  const user = serverUser();
  const dir = serverFolder(resolve(options.dir), user);
  const { standbyOf: primary = null } = options;
  const following = primary === null ? {} : standbySettings(primary);
  const settings = settingsFor(install, port, { ...following, ...options.settings });
  const data = prepareData({ install, dir, settings, user, primary });
  const url = (database: string): string =>
    `postgres://${superuser.name}:${superuser.password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  const query: LocalPostgres["query"] = (database, sql, values) => queryOnce(url(database), sql, values);
  const server = serverOf({
    name: "PostgreSQL",
    command: [join(install.bin, "postgres"), "-D", data],
    child: {
      cwd: data,
      env: serverEnvironment(),
      logFile: join(dir, "server.log"),
      orphanSignal: "QUIT",
      ...(user === null ? {} : { user }),
      ...(options.removeWhenOrphaned ? { removeWhenOrphaned: dir } : {}),
    },
    // Another server may have been quicker on the port: only ours keeps its data here.
    answers: async () => (await query("postgres", "SHOW data_directory"))[0]?.["data_directory"] === data,
    stopSignal: "SIGINT",
  });
  const dropDatabase = (name: string): Promise<void> => dropWithSlots(query, name);
  return {
    ...server,
    port,
    dir,
    majorVersion: install.majorVersion,
    url,
    query,
    dropDatabase,
    createDatabase: async (name) => {
      await dropDatabase(name);
      await query("postgres", `CREATE DATABASE ${quoted(name)}`);
      return url(name);
    },
  };
}

async function dropWithSlots(query: LocalPostgres["query"], name: string): Promise<void> {
  const found = await query("postgres", "SELECT 1 FROM pg_database WHERE datname = $1", [name]);
  if (found.length === 0) return;
  // Nobody comes back to a slot while it is being dropped.
  await query("postgres", `ALTER DATABASE ${quoted(name)} ALLOW_CONNECTIONS false`);
  const slotsAreGone = async (): Promise<boolean> => {
    await query("postgres", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = $1 AND active", [
      name,
    ]);
    await query(
      "postgres",
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active",
      [name],
    );
    return (await query("postgres", "SELECT 1 FROM pg_replication_slots WHERE database = $1", [name])).length === 0;
  };
  // A walsender takes a moment to end, and in between a slot that looked inactive may be taken.
  const gone = await until(() => slotsAreGone().catch(() => false), 30_000);
  if (!gone) throw new Error(`The replication slots of database ${name} could not be dropped within 30 s.`);
  await query("postgres", `DROP DATABASE ${quoted(name)} WITH (FORCE)`);
}

async function queryOnce(url: string, sql: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    const result = await client.query<Record<string, unknown>>(sql, values === undefined ? undefined : [...values]);
    return Array.isArray(result) ? [] : result.rows;
  } finally {
    await client.end().catch(() => {});
  }
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
