import { rmSync } from "node:fs";
import { join } from "node:path";
import { availableFirst, installWithApt, packageNames, thisMachine } from "./apt.ts";
import { findJava } from "./java.ts";
import { startKafka } from "./kafka.ts";
import { fetchKafka, hasClassArchive, hasKafka, kafkaFolder, keepClassArchive } from "./kafka-install.ts";
import { findMariadb } from "./mariadb-install.ts";
import { fetchNewerPostgres, findNewerPostgres } from "./newer-postgres.ts";
import { debianInstalls, findPostgres } from "./postgres-install.ts";
import { say, step } from "./progress.ts";
import { fetchPrometheus, findPrometheus } from "./prometheus-install.ts";
import { planFor, type Requirement, wal2jsonMajors } from "./requirements.ts";

export interface SetUpOptions {
  /** MariaDB is installed where we may, and done without where we may not. */
  readonly mariadb?: boolean;
  /** PostgreSQL 17 is fetched where Debian has it, and done without where not. */
  readonly newerPostgres?: boolean;
  /** Fetched where Debian has it, and done without where not. */
  readonly prometheus?: boolean;
}

/** Thrown before anything was changed: its message is what to do, for people. */
export class SetUpRefusedError extends Error {
  override readonly name = "SetUpRefusedError";
}

/** Installs what the real servers need and this machine lacks. Quick and silent when nothing is missing. */
export async function setUp(options: SetUpOptions = {}): Promise<void> {
  await installPrograms(options);
  const java = findJava();
  if (java === null || findPostgres() === null)
    throw new Error("PostgreSQL with wal2json or Java is still not found after it was installed.");
  if (!hasKafka()) await step("Fetching Kafka with Maven", () => fetchKafka(java));
  if (!hasClassArchive())
    await step("Making Kafka start faster", archiveClasses).catch((error) => say(`Kafka starts slower: ${error}`));
  if (options.newerPostgres && findNewerPostgres() === null)
    await step("Fetching PostgreSQL 17 with wal2json", fetchNewerPostgres).catch((error) =>
      say(`What needs PostgreSQL 17 is left out: ${error}`),
    );
  if (options.prometheus && findPrometheus() === null)
    await step("Fetching Prometheus", fetchPrometheus).catch((error) => say(`What needs Prometheus is left out: ${error}`));
}

async function installPrograms(options: SetUpOptions): Promise<void> {
  const machine = thisMachine();
  const missing = missingPrograms().map(availableFirst);
  const plan = planFor(missing, machine);
  if (plan.kind === "refuse") throw new SetUpRefusedError(plan.message);
  const wanted = [...missing, ...(options.mariadb && findMariadb() === null ? [mariadb] : [])];
  const wider = planFor(wanted, machine);
  if (wider.kind === "install") await installWithApt(wider.prefix, wanted);
  if (wider.kind === "refuse") say("MariaDB is not installed, and may not be installed from here: what needs it is left out.");
}

const mariadb: Requirement = {
  what: "MariaDB's server programs",
  debian: ["mariadb-server-core mariadb-client-core", "mariadb-server-core"],
};

function missingPrograms(): readonly Requirement[] {
  const missing: Requirement[] = [];
  if (findPostgres() === null) missing.push(postgresRequirement());
  if (findJava() === null)
    missing.push({
      what: "Java 17 or newer",
      debian: ["openjdk-21-jre-headless", "openjdk-17-jre-headless", "default-jre-headless"],
    });
  if (!hasKafka() && Bun.which("mvn") === null) missing.push({ what: "Maven, which fetches Kafka", debian: ["maven"] });
  return missing;
}

/** A server that is there already gets the plugin and stays as it is. */
function postgresRequirement(): Requirement {
  const what = "PostgreSQL 14 or newer with wal2json";
  const plugins = debianInstalls().map(({ majorVersion }) => `postgresql-${majorVersion}-wal2json`);
  const majors = wal2jsonMajors(packageNames("^postgresql-[0-9]+-wal2json$"));
  const servers = majors.map((major) => `postgresql-${major} postgresql-${major}-wal2json`);
  // With no package list read yet nothing is known: these are Debian's and Ubuntu's releases of today.
  const guesses = [18, 17, 16, 15, 14].map((major) => `postgresql-${major} postgresql-${major}-wal2json`);
  return { what, debian: [...plugins, ...servers, ...(majors.length === 0 ? guesses : [])] };
}

/** Runs a broker once so that the JVM writes down the classes it loaded. */
async function archiveClasses(): Promise<void> {
  const dir = join(kafkaFolder, `archive.${process.pid}`);
  const written = join(dir, "classes.jsa");
  try {
    const kafka = await startKafka({
      dir,
      javaOptions: [`-XX:ArchiveClassesAtExit=${written}`, "-Xlog:cds=off", "-Xlog:cds+dynamic=off"],
    });
    await kafka[Symbol.asyncDispose]();
    keepClassArchive(written);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  try {
    const asked = (option: string): boolean => process.argv.includes(option);
    await setUp({
      mariadb: asked("--mariadb"),
      newerPostgres: asked("--newer-postgres"),
      prometheus: asked("--prometheus"),
    });
    say("Everything is there.");
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
