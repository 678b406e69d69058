import { cpSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.ts";
import { findJava } from "./java.ts";
import { type ClusterNode, type KafkaPorts, type Properties, propertiesFor, renderProperties } from "./kafka-properties.ts";
import { fetchJars } from "./maven.ts";
import { stateFolder } from "./paths.ts";

// The version is part of the name: a new one in pom.xml needs a new folder here.
export const kafkaFolder = join(stateFolder, "kafka/4.3.0");
const libraries = join(kafkaFolder, "libs");
const classArchive = join(kafkaFolder, "classes.jsa");
const formattedData = join(kafkaFolder, "formatted");

export function hasKafka(): boolean {
  return existsSync(libraries);
}

export const fetchKafka = (javaHome: string): Promise<void> => fetchJars(join(import.meta.dir, "pom.xml"), libraries, javaHome);

/** The command line of a JVM with Kafka's classes, made to start fast and stay small. */
export function javaCommand(options: readonly string[]): readonly string[] {
  const home = findJava();
  if (home === null || !hasKafka()) throw new Error("Kafka or a Java for it is missing: run `bun local/setup.ts`.");
  const archive = existsSync(classArchive)
    ? [`-XX:SharedArchiveFile=${classArchive}`, "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    : [];
  return [
    join(home, "bin/java"),
    ...["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", ...archive, ...options],
    ...["-cp", join(libraries, "*")],
  ];
}

/** Makes the data folder of a node unless it is there. A JVM takes its second for it, so what the first one wrote is kept to copy. */
export async function formatStorage(dir: string, propertiesFile: string, wished: Properties, node?: ClusterNode): Promise<void> {
  const data = join(dir, "data");
  if (existsSync(join(data, "meta.properties"))) return;
  // Only the node's number and the logs' folders are written into it.
  const isUsual = node === undefined && wished["node.id"] === undefined && wished["log.dirs"] === undefined;
  if (isUsual && existsSync(formattedData)) {
    cpSync(formattedData, data, { recursive: true });
    return;
  }
  const fixedClusterId = "Q2FzY2FkZUxvY2FsQnJva2";
  const tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", fixedClusterId, "-c", propertiesFile];
  await run([...javaCommand([]), ...tool]);
  if (!isUsual) return;
  const unfinished = `${formattedData}.${process.pid}`;
  cpSync(data, unfinished, { recursive: true });
  // Another process may have been quicker: its copy is as good.
  if (!existsSync(formattedData)) renameSync(unfinished, formattedData);
  rmSync(unfinished, { recursive: true, force: true });
}

export function writeProperties(dir: string, ports: KafkaPorts, wished: Properties, node?: ClusterNode): string {
  const file = join(dir, "server.properties");
  writeFileSync(file, renderProperties(propertiesFor(join(dir, "data"), ports, wished, node)));
  return file;
}

export const hasClassArchive = (): boolean => existsSync(classArchive);

/** Takes over the archive of loaded classes that a broker wrote at its end. It saves about half of every later start. */
export function keepClassArchive(written: string): void {
  if (existsSync(written)) renameSync(written, classArchive);
}
