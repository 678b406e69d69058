import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

const oldestMajor = 17;

/** The home of a Java that Kafka 4 runs on; null when there is none. */
export function findJava(): string | null {
  for (const home of homes()) {
    const java = join(home, "bin/java");
    if (existsSync(java) && javaMajor(Bun.spawnSync([java, "-version"]).stderr.toString()) >= oldestMajor) return home;
  }
  return null;
}

function* homes(): Generator<string> {
  if (process.env["JAVA_HOME"]) yield process.env["JAVA_HOME"];
  const root = "/usr/lib/jvm";
  if (existsSync(root)) for (const name of readdirSync(root).sort()) yield join(root, name);
  const onPath = Bun.which("java");
  if (onPath === null) return;
  const properties = Bun.spawnSync([onPath, "-XshowSettings:properties", "-version"]).stderr.toString();
  const home = /^\s*java\.home = (.+)$/m.exec(properties)?.[1];
  if (home) yield home;
}

/** From what `java -version` prints; 0 when that says nothing. */
export function javaMajor(versionText: string): number {
  return Number(/version "(?:1\.)?(\d+)/.exec(versionText)?.[1] ?? 0);
}
