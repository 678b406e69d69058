import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { run } from "./command.ts";

/** Maven fetches the jars that a pom.xml names: never a half-filled folder, whatever interrupts it and however many run at once. */
export async function fetchJars(pom: string, into: string, javaHome: string): Promise<void> {
  const folder = dirname(into);
  mkdirSync(folder, { recursive: true });
  const unfinished = `${into}.${process.pid}`;
  // People who use Maven have its cache; others get none in their home.
  const ownCache = join(folder, `maven.${process.pid}`);
  const cache = existsSync(join(homedir(), ".m2/repository")) ? [] : [`-Dmaven.repo.local=${ownCache}`];
  const maven = ["mvn", "--batch-mode", "--quiet", "--file", pom, "dependency:copy-dependencies"];
  try {
    await run([...maven, ...cache, "-DincludeScope=runtime", `-DoutputDirectory=${unfinished}`], {
      env: { ...process.env, JAVA_HOME: javaHome },
    });
    if (!existsSync(into)) renameSync(unfinished, into);
  } finally {
    for (const left of [unfinished, ownCache]) rmSync(left, { recursive: true, force: true });
  }
}
