import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export interface PostgresInstall {
  readonly bin: string;
  readonly majorVersion: number;
}

/** The newest installed PostgreSQL that has wal2json; null when there is none. */
export function findPostgres(): PostgresInstall | null {
  return debianInstalls().find((install) => existsSync(join(install.bin, "../lib/wal2json.so"))) ?? installOnPath();
}

/** Debian keeps every major version in a folder of its own, newest first here. */
export function debianInstalls(): readonly PostgresInstall[] {
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((version) => /^\d+$/.test(version) && existsSync(join(root, version, "bin/postgres")))
    .map((version) => ({ bin: join(root, version, "bin"), majorVersion: Number(version) }))
    .sort((one, other) => other.majorVersion - one.majorVersion);
}

function installOnPath(): PostgresInstall | null {
  const configCommand = Bun.which("pg_config");
  if (configCommand === null) return null;
  const [bin = "", libraries = "", version = ""] = ["--bindir", "--pkglibdir", "--version"].map((option) =>
    Bun.spawnSync([configCommand, option]).stdout.toString().trim(),
  );
  const usable =
    existsSync(join(bin, "postgres")) && ["so", "dylib"].some((end) => existsSync(join(libraries, `wal2json.${end}`)));
  return usable ? { bin, majorVersion: Number(/\d+/.exec(version)?.[0]) } : null;
}

/**
 * Since August 2026 PostgreSQL loads only the output plugins that this setting names, and older minors refuse to start
 * on a setting that they don't know.
 */
export function knowsOutputPluginLibraries(install: PostgresInstall): boolean {
  const described = Bun.spawnSync([join(install.bin, "postgres"), "--describe-config"], { cwd: "/" }).stdout.toString();
  return described.split("\n").some((line) => line.startsWith("output_plugin_libraries\t"));
}
