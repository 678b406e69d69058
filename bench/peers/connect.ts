import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Child, spawnChild } from "@cascade/local/child.ts";
import { freePort } from "@cascade/local/ports.ts";
import { connectCommand } from "./libraries.ts";

export type Settings = Readonly<Record<string, string>>;

export interface ConnectOptions {
  readonly brokers: string;
  /** For its settings, offsets and log. */
  readonly folder: string;
  readonly worker: Settings;
  /** By name. */
  readonly connectors: Readonly<Record<string, Settings>>;
}

/** Kafka Connect with connectors of one task each, all in one process. */
export interface ConnectWorker extends AsyncDisposable {
  readonly child: Child;
  /** Resolves to what it has printed last, when it ends without being asked to. */
  readonly died: Promise<Error>;
  log(): string;
}

const START_MS = 90_000;

/** Resolves when every connector and its task are running. */
export async function startConnect({ brokers, folder, worker, connectors }: ConnectOptions): Promise<ConnectWorker> {
  const port = await freePort();
  const own = join(folder, `connect-${port}`);
  mkdirSync(own);
  const file = (name: string, settings: Settings): string => {
    const path = join(own, `${name}.properties`);
    writeFileSync(
      path,
      Object.entries(settings)
        .map(([key, value]) => `${key}=${value}\n`)
        .join(""),
    );
    return path;
  };
  const workerFile = file("worker", {
    "bootstrap.servers": brokers,
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "offset.storage.file.filename": join(own, "offsets"),
    listeners: `http://127.0.0.1:${port}`,
    "connector.client.config.override.policy": "All",
    ...worker,
  });
  const files = Object.entries(connectors).map(([name, settings]) => file(name, { name, "tasks.max": "1", ...settings }));
  const command = [...(await connectCommand()), "org.apache.kafka.connect.cli.ConnectStandalone", workerFile, ...files];
  const logFile = join(own, "log");
  const child = spawnChild(command, { cwd: own, logFile, orphanSignal: "KILL" });
  let isAsked = false;
  const died = new Promise<Error>((resolve) => {
    void child.exited.then(({ code, signal }) => {
      if (!isAsked) resolve(new Error(`Kafka Connect ended (${signal ?? code}):\n${child.log()}`));
    });
  });
  const stop = async () => {
    isAsked = true;
    await child.stop("SIGTERM", 20_000);
  };
  try {
    await Promise.race([running(port, Object.keys(connectors)), died.then((error) => Promise.reject(error))]);
  } catch (error) {
    await stop();
    throw error;
  }
  return { child, died, log: () => child.log(), [Symbol.asyncDispose]: stop };
}

interface ConnectorStatus {
  readonly connector: { readonly state: string };
  readonly tasks: readonly { readonly state: string; readonly trace?: string }[];
}

async function running(port: number, connectors: readonly string[]): Promise<void> {
  const giveUpAt = performance.now() + START_MS;
  for (const name of connectors) {
    for (;;) {
      const status = await statusOf(port, name);
      const failed = status?.tasks.find(({ state }) => state === "FAILED");
      if (failed !== undefined) throw new Error(`${name} has failed: ${failed.trace ?? ""}`);
      if (status?.connector.state === "RUNNING" && status.tasks.some(({ state }) => state === "RUNNING")) break;
      if (performance.now() > giveUpAt) throw new Error(`${name} does not run after ${START_MS / 1_000} s`);
      await Bun.sleep(20);
    }
  }
}

/** null while the worker does not answer, or does not know it yet. */
async function statusOf(port: number, name: string): Promise<ConnectorStatus | null> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/connectors/${name}/status`);
    return response.ok ? ((await response.json()) as ConnectorStatus) : null;
  } catch {
    return null; // not up yet
  }
}
