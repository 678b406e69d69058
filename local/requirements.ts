/** A program that the machine must have, and how people get it. */
export interface Requirement {
  readonly what: string;
  /** Debian packages, of which the first that exists is taken; each entry may be several, separated by spaces. */
  readonly debian: readonly string[];
}

export interface Machine {
  /** Words before apt-get: none for root, sudo where it asks for no password; null when we may not install. */
  readonly aptPrefix: readonly string[] | null;
  /** Debian, Ubuntu or one of their kin. */
  readonly hasApt: boolean;
}

export type Plan =
  | { readonly kind: "ready" }
  | { readonly kind: "install"; readonly prefix: readonly string[] }
  | { readonly kind: "refuse"; readonly message: string };

export function planFor(missing: readonly Requirement[], machine: Machine): Plan {
  if (missing.length === 0) return { kind: "ready" };
  if (machine.aptPrefix !== null && machine.hasApt) return { kind: "install", prefix: machine.aptPrefix };
  return { kind: "refuse", message: refusal(missing, machine) };
}

function refusal(missing: readonly Requirement[], machine: Machine): string {
  const packages = missing.map((requirement) => requirement.debian[0] ?? "").join(" ");
  const way = machine.hasApt
    ? `Installing them needs root, and sudo asks for a password here. Run this, then try again:\n\n  sudo apt-get update && sudo apt-get install ${packages}\n`
    : "Install them with this system's package manager, then try again.";
  return [
    "Missing on this machine:",
    ...missing.map((requirement) => `  - ${requirement.what}`),
    "",
    way,
    "The other way needs Docker alone: docker compose up --build",
  ].join("\n");
}

/** The `postgresql-<major>-wal2json` packages that a package list names, newest PostgreSQL first. */
export function wal2jsonMajors(packageNames: readonly string[]): readonly number[] {
  return packageNames
    .flatMap((name) => /^postgresql-(\d+)-wal2json$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((one, other) => other - one);
}
