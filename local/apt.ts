import { existsSync } from "node:fs";
import { run } from "./command.ts";
import { say, step } from "./progress.ts";
import type { Machine, Requirement } from "./requirements.ts";

export function thisMachine(): Machine {
  const hasApt = Bun.which("apt-get") !== null;
  if (process.getuid?.() === 0) return { aptPrefix: [], hasApt };
  const sudo = Bun.which("sudo");
  const mayInstall = sudo !== null && Bun.spawnSync([sudo, "-n", "true"]).exitCode === 0;
  return { aptPrefix: mayInstall ? ["sudo", "-n"] : null, hasApt };
}

export async function installWithApt(prefix: readonly string[], missing: readonly Requirement[]): Promise<void> {
  await step("Reading the package lists", () => aptGet(prefix, "update"));
  const packages = missing.map(packagesOf);
  const withServer = packages.some((names) => /^postgresql-\d+ /.test(names));
  // Its folder for settings comes with this package, which starts nothing by itself.
  if (withServer) await step("Installing postgresql-common", () => aptGet(prefix, "install", "postgresql-common"));
  const install = (names: string): Promise<void> =>
    step(`Installing ${names}`, () => aptGet(prefix, "install", ...names.split(" ")));
  await withoutMainCluster(withServer, prefix, async () => {
    for (const names of packages) await install(names);
  });
}

function packagesOf(requirement: Requirement): string {
  const available = requirement.debian.find((names) => names.split(" ").every(isAvailable));
  if (available === undefined)
    throw new Error(
      `${requirement.what} is missing, and this system's package lists have none of: ${requirement.debian.join(", ")}.`,
    );
  return available;
}

/** What this system's package lists have comes first: it is what people are told to install. */
export function availableFirst({ what, debian }: Requirement): Requirement {
  const available = debian.filter((names) => names.split(" ").every(isAvailable));
  return { what, debian: [...available, ...debian.filter((names) => !available.includes(names))] };
}

function isAvailable(name: string): boolean {
  const policy = Bun.spawnSync(["apt-cache", "policy", name], { env: { ...process.env, LC_ALL: "C" } }).stdout.toString();
  return /Candidate: (?!\(none\))/.test(policy);
}

export function packageNames(pattern: string): readonly string[] {
  return Bun.spawnSync(["apt-cache", "search", "--names-only", pattern])
    .stdout.toString()
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "");
}

async function aptGet(prefix: readonly string[], action: "update" | "install", ...packages: readonly string[]): Promise<void> {
  const options = ["-q", "-o", "DPkg::Lock::Timeout=600", ...(action === "install" ? ["--yes", "--no-install-recommends"] : [])];
  await run([...prefix, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", ...options, action, ...packages]);
}

/** Debian makes and starts a database cluster with every server package, unless a settings file says otherwise. */
async function withoutMainCluster(needed: boolean, prefix: readonly string[], work: () => Promise<void>): Promise<void> {
  const folder = "/etc/postgresql-common/createcluster.d";
  const file = `${folder}/cascade-set-up.conf`;
  if (!needed) return work();
  const hadFolder = existsSync(folder);
  await run([...prefix, "sh", "-c", `mkdir -p ${folder} && echo "create_main_cluster = false" > ${file}`]);
  try {
    await work();
  } finally {
    await run([...prefix, "sh", "-c", `rm -f ${file}${hadFolder ? "" : `; rmdir --ignore-fail-on-non-empty ${folder}`}`]);
    say("PostgreSQL's own cluster was not made: the servers keep their data in .cascade/");
  }
}
