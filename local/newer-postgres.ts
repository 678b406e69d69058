import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.ts";
import { stateFolder } from "./paths.ts";
import { findPostgres, type PostgresInstall } from "./postgres-install.ts";
import { serverFolder, serverUser } from "./server-user.ts";

/** The release of Debian that brings it. */
const RELEASE = "trixie";
const MAJOR = 17;
const SERVER = `usr/lib/postgresql/${MAJOR}`;
const PROGRAMS = ["postgres", "initdb", "pg_basebackup"];

/**
 * A server with failover slots (PostgreSQL 17): the installed one, that of CASCADE_TEST_POSTGRES (its folder of programs), or the one
 * that `fetchNewerPostgres` has fetched. Null when there is none: what needs it is skipped.
 */
export function findNewerPostgres(): PostgresInstall | null {
  const named = process.env["CASCADE_TEST_POSTGRES"];
  if (named !== undefined) return { bin: named, majorVersion: majorOf(named) };
  const installed = findPostgres();
  if (installed !== null && installed.majorVersion >= MAJOR) return installed;
  const bin = join(fetchedFolder(), "root", SERVER, "bin");
  return existsSync(bin) ? { bin, majorVersion: MAJOR } : null;
}

function majorOf(bin: string): number {
  const said = Bun.spawnSync([join(bin, "postgres"), "--version"], { cwd: "/" }).stdout.toString();
  const major = Number(/\d+/.exec(said)?.[0]);
  if (!(major >= MAJOR)) throw new Error(`CASCADE_TEST_POSTGRES=${bin} is no PostgreSQL ${MAJOR} or newer: ${said.trim()}`);
  return major;
}

// The server's user runs what is in it.
const fetchedFolder = (): string => serverFolder(join(stateFolder, `postgresql-${MAJOR}`), serverUser());

/**
 * Takes the server out of Debian's next release, with the libraries it needs, C's own included: nothing is installed, and
 * nobody need be root. Rejects where this is no Debian, or its mirror has no such release.
 */
export async function fetchNewerPostgres(): Promise<void> {
  const folder = fetchedFolder();
  const unfinished = join(folder, `unfinished.${process.pid}`);
  try {
    const packages = join(unfinished, "packages");
    mkdirSync(packages, { recursive: true });
    const apt = await otherRelease(join(unfinished, "apt"));
    await run([...apt, "update"]);
    const names = needed(await simulated(apt));
    await run([...apt, "download", ...names], { cwd: packages });
    const root = join(unfinished, "root");
    for (const file of readdirSync(packages)) await run(["dpkg-deb", "--extract", join(packages, file), root]);
    const final = join(folder, "root");
    for (const program of PROGRAMS) withItsLibraries(root, final, program);
    if (!existsSync(final)) renameSync(root, final);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
}

/** An apt-get that knows that release alone, from this machine's own mirror, and nothing that is installed. */
async function otherRelease(dir: string): Promise<readonly string[]> {
  const targets = await run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]);
  const mirror = targets.split("\n").find((line) => line !== "");
  if (mirror === undefined) throw new Error("this system's packages are not Debian's own");
  for (const folder of ["state/lists/partial", "cache/archives/partial"]) mkdirSync(join(dir, folder), { recursive: true });
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  writeFileSync(join(dir, "sources.list"), `deb [signed-by=${keyring}] ${mirror} ${RELEASE} main\n`);
  writeFileSync(join(dir, "status"), "");
  const settings = {
    "Dir::Etc::SourceList": join(dir, "sources.list"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::State": join(dir, "state"),
    "Dir::State::Status": join(dir, "status"),
    "Dir::Cache": join(dir, "cache"),
    "Acquire::Languages": "none",
    // What the machine's settings ask for beside the packages' list.
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
    "APT::Install-Recommends": "false",
    "APT::Sandbox::User": "root",
  };
  return ["apt-get", "-q", ...Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`])];
}

async function simulated(apt: readonly string[]): Promise<string> {
  const wanted = [`postgresql-${MAJOR}`, `postgresql-${MAJOR}-wal2json`];
  const simulating = Bun.spawn([...apt, "--simulate", "install", ...wanted], { stdio: ["ignore", "pipe", "inherit"] });
  const output = await new Response(simulating.stdout).text();
  if ((await simulating.exited) !== 0) throw new Error(`Debian's ${RELEASE} has no ${wanted.join(" and ")}`);
  return output;
}

/** Of all that it depends on: the server, and libraries, without those of its compiler for queries. Pure. */
export function needed(simulation: string): readonly string[] {
  const names = [...simulation.matchAll(/^Inst (\S+)/gm)].map((match) => match[1] ?? "");
  return names.filter(
    (name) => /^(lib|zlib1g|postgresql-(client-)?\d)/.test(name) && !/^lib(llvm|z3|perl|pam-modules|c-)|-perl$/.test(name),
  );
}

/** A script in the program's place: this system's C library may be older than the program. */
function withItsLibraries(root: string, final: string, program: string): void {
  const own = join(SERVER, "bin/own");
  mkdirSync(join(root, own), { recursive: true });
  renameSync(join(root, SERVER, "bin", program), join(root, own, program));
  const loader = [...new Bun.Glob("usr/lib/*/ld-linux-*.so.*").scanSync({ cwd: root, onlyFiles: false })][0];
  if (loader === undefined) throw new Error("no dynamic loader among the packages");
  const libraries = join(final, loader, "..");
  const line = `exec '${join(final, loader)}' --argv0 "$0" --library-path '${libraries}' '${join(final, own, program)}' "$@"`;
  writeFileSync(join(root, SERVER, "bin", program), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
}
