import { existsSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { SQL } from "bun";
import { findMariadb, type MariadbInstall } from "./mariadb-install.ts";
import { onFreePort } from "./ports.ts";
import { serverEnvironment } from "./postgres-data.ts";
import { type Server, serverOf } from "./server.ts";
import { type ServerUser, serverFolder, serverUser } from "./server-user.ts";

export interface LocalMariadb extends Server {
  readonly port: number;
  readonly dir: string;
  /** The superuser's URL of a database. */
  url(database: string): string;
  /** Makes an empty database, dropping one of that name first, and returns its URL. */
  createDatabase(name: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  query(database: string, sql: string): Promise<readonly Record<string, unknown>[]>;
}

export interface MariadbOptions {
  readonly dir: string;
  readonly port?: number;
  /** Options of the server, without their dashes. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly removeWhenOrphaned?: boolean;
}

const superuser = { name: "cascade", password: "cascade" } as const;

/** A real MariaDB, reachable on the loopback interface alone. Resolves when it answers queries. */
export async function startMariadb(options: MariadbOptions): Promise<LocalMariadb> {
  const install = findMariadb();
  if (install === null) throw new Error("MariaDB is not installed: run `bun local/setup.ts --mariadb`.");
  return onFreePort(options.port, async (port) => {
    const mariadb = localMariadb(install, port, options);
    await mariadb.start();
    return mariadb;
  });
}

function localMariadb(install: MariadbInstall, port: number, options: MariadbOptions): LocalMariadb {
  const user = serverUser();
  const dir = serverFolder(resolve(options.dir), user);
  const data = prepareData(install, dir, user);
  const url = (database: string): string =>
    `mariadb://${superuser.name}:${superuser.password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
  const query: LocalMariadb["query"] = (database, sql) => queryOnce(url(database), sql);
  const settings: Readonly<Record<string, string>> = {
    datadir: data,
    port: String(port),
    "bind-address": "127.0.0.1",
    // Socket paths are limited to about a hundred characters: a relative one is never too long.
    socket: "mariadb.sock",
    "pid-file": join(dir, "server.pid"),
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    ...options.settings,
  };
  const server = serverOf({
    name: "MariaDB",
    command: [install.server, "--no-defaults", ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`)],
    child: {
      cwd: dir,
      env: environmentIn(dir),
      logFile: join(dir, "server.log"),
      ...(user === null ? {} : { user }),
      ...(options.removeWhenOrphaned ? { removeWhenOrphaned: dir } : {}),
    },
    answers: async () => String((await query("mysql", "SELECT @@datadir AS data"))[0]?.["data"]).startsWith(data),
    stopSignal: "SIGTERM",
  });
  const dropDatabase = async (name: string): Promise<void> =>
    void (await query("mysql", `DROP DATABASE IF EXISTS ${quoted(name)}`));
  const createDatabase = async (name: string): Promise<string> => {
    await dropDatabase(name);
    await query("mysql", `CREATE DATABASE ${quoted(name)}`);
    return url(name);
  };
  return { ...server, port, dir, url, query, dropDatabase, createDatabase };
}

/** A server that starts deletes every temporary table in its folder for them: in /tmp those of the other servers, too. */
const environmentIn = (dir: string): Record<string, string> => ({ ...serverEnvironment(), TMPDIR: dir });

function prepareData(install: MariadbInstall, dir: string, user: ServerUser): string {
  const data = join(dir, "data");
  if (existsSync(data)) return data;
  const unfinished = join(dir, "data.unfinished");
  rmSync(unfinished, { recursive: true, force: true });
  const inDir = { cwd: dir, env: environmentIn(dir), ...user };
  const options = ["--no-defaults", `--datadir=${unfinished}`, "--auth-root-authentication-method=normal", "--skip-test-db"];
  const made = Bun.spawnSync([install.installer, ...options], inDir);
  if (made.exitCode !== 0) throw new Error(`mariadb-install-db failed in ${dir}:\n${made.stdout}${made.stderr}`);
  const account = `'${superuser.name}'@'127.0.0.1'`;
  const sql = [
    "FLUSH PRIVILEGES",
    `CREATE USER ${account} IDENTIFIED BY '${superuser.password}'`,
    `GRANT ALL ON *.* TO ${account} WITH GRANT OPTION`,
  ].join(";\n");
  const granted = Bun.spawnSync([install.server, "--no-defaults", `--datadir=${unfinished}`, "--bootstrap"], {
    ...inDir,
    stdin: Buffer.from(`${sql};\n`),
  });
  if (granted.exitCode !== 0) throw new Error(`MariaDB's first user could not be made in ${dir}:\n${granted.stderr}`);
  renameSync(unfinished, data);
  return data;
}

async function queryOnce(url: string, sql: string): Promise<readonly Record<string, unknown>[]> {
  const client = new SQL(url, { max: 1, connectionTimeout: 5 });
  try {
    return (await client.unsafe(sql)) as readonly Record<string, unknown>[];
  } finally {
    await client.close();
  }
}

function quoted(name: string): string {
  return `\`${name.replaceAll("`", "``")}\``;
}
