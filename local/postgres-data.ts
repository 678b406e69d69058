import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { knowsOutputPluginLibraries, type PostgresInstall } from "./postgres-install.ts";
import type { ServerUser } from "./server-user.ts";

export type Settings = Readonly<Record<string, string>>;

export const superuser = { name: "cascade", password: "cascade" } as const;

export function settingsFor(install: PostgresInstall, port: number, wished: Settings): Settings {
  return {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    wal_level: "logical",
    max_connections: "300",
    max_replication_slots: "100",
    max_wal_senders: "100",
    // Compiling a query for one small statement costs more than running it.
    jit: "off",
    ...(knowsOutputPluginLibraries(install) ? { output_plugin_libraries: "pgoutput, test_decoding, wal2json" } : {}),
    ...wished,
  };
}

/** Whom a standby follows, and the physical slot there that keeps WAL for it. */
export interface Primary {
  readonly port: number;
  readonly slot: string;
}

/** Slots for logical decoding are copied, too, where the version can. */
export function standbySettings({ port, slot }: Primary): Settings {
  const { name, password } = superuser;
  return {
    primary_conninfo: `host=127.0.0.1 port=${port} user=${name} password=${password} dbname=postgres`,
    primary_slot_name: slot,
    hot_standby_feedback: "on",
    sync_replication_slots: "on",
    wal_receiver_status_interval: "1s",
  };
}

export function renderSettings(settings: Settings): string {
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`);
  return `# Written at every start by local/postgres-data.ts\n${lines.join("\n")}\n`;
}

export interface DataOptions {
  readonly install: PostgresInstall;
  readonly dir: string;
  readonly settings: Settings;
  readonly user: ServerUser;
  /** Null: of its own. */
  readonly primary: Primary | null;
}

/** Makes the data folder unless it is there, and writes its settings. */
export function prepareData({ install, dir, settings, user, primary }: DataOptions): string {
  const data = join(dir, "data");
  if (!existsSync(data)) initialise(install, dir, data, user, primary);
  const version = readFileSync(join(data, "PG_VERSION"), "utf8").trim();
  if (version !== String(install.majorVersion))
    throw new Error(`${data} was made by PostgreSQL ${version}, but ${install.majorVersion} is installed: remove that folder.`);
  writeFileSync(join(data, "postgresql.conf"), renderSettings(settings));
  return data;
}

function initialise(install: PostgresInstall, dir: string, data: string, user: ServerUser, primary: Primary | null): void {
  const unfinished = join(dir, "data.unfinished");
  rmSync(unfinished, { recursive: true, force: true });
  if (primary === null) newCluster(install, dir, unfinished, user);
  else copyOf(primary, install, dir, unfinished, user);
  // Renamed when whole, so that an interrupted start leaves nothing that looks like a data folder.
  renameSync(unfinished, data);
}

function newCluster(install: PostgresInstall, dir: string, data: string, user: ServerUser): void {
  const passwordFile = join(dir, "password");
  writeFileSync(passwordFile, superuser.password);
  const made = Bun.spawnSync(
    [
      join(install.bin, "initdb"),
      ...["--pgdata", data, "--username", superuser.name, "--pwfile", passwordFile, "--auth", "scram-sha-256"],
      ...["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"],
    ],
    { cwd: dir, env: serverEnvironment(), ...user },
  );
  rmSync(passwordFile);
  if (made.exitCode !== 0) throw new Error(`initdb failed in ${dir}:\n${made.stdout}${made.stderr}`);
}

function copyOf({ port }: Primary, install: PostgresInstall, dir: string, data: string, user: ServerUser): void {
  const made = Bun.spawnSync(
    [
      join(install.bin, "pg_basebackup"),
      ...["--host", "127.0.0.1", "--port", String(port), "--username", superuser.name, "--no-password"],
      ...["--pgdata", data, "--wal-method", "stream", "--checkpoint", "fast", "--no-sync"],
    ],
    { cwd: dir, env: { ...serverEnvironment(), PGPASSWORD: superuser.password }, ...user },
  );
  if (made.exitCode !== 0) throw new Error(`pg_basebackup failed in ${dir}:\n${made.stdout}${made.stderr}`);
  writeFileSync(join(data, "standby.signal"), "");
}

/** Without the user's PGPORT, PGDATA and so on, which would overrule ours. */
export function serverEnvironment(): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C" };
}
