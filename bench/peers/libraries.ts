import { existsSync } from "node:fs";
import { join } from "node:path";
import { findJava } from "@cascade/local/java.ts";
import { fetchJars } from "@cascade/local/maven.ts";
import { stateFolder } from "@cascade/local/paths.ts";
import { step } from "@cascade/local/progress.ts";

// The version is part of the name: a new one in pom.xml needs a new folder here.
const libraries = join(stateFolder, "debezium/3.6.1/libs");

/** As Kafka Connect's own script has it. */
export const HEAP = ["-Xms256M", "-Xmx2G"];

/** The command line of a JVM with Kafka Connect's and Debezium's classes, which are fetched where they are missing. */
export async function connectCommand(): Promise<readonly string[]> {
  const home = findJava();
  if (home === null) throw new Error("Java is missing: run `bun local/setup.ts`.");
  if (!existsSync(libraries))
    await step("Fetching Kafka Connect and Debezium with Maven", () =>
      fetchJars(join(import.meta.dir, "pom.xml"), libraries, home),
    );
  return [join(home, "bin/java"), ...HEAP, "-cp", join(libraries, "*")];
}
