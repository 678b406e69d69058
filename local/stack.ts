import { join } from "node:path";
import { type Child, type ChildExit, spawnChild } from "./child.ts";
import { repository } from "./paths.ts";
import { freePort } from "./ports.ts";
import type { CdcStatus, RouterStatus } from "./service-status.ts";

/** A service of Cascade as a child process. It ends when we do. */
export interface Service<Status> extends AsyncDisposable {
  readonly name: string;
  readonly child: Child;
  readonly httpUrl: string;
  /** Resolves when `/health/ready` says so; rejects with its reasons and last log lines when it ends or the time is over. */
  ready(withinMs?: number): Promise<void>;
  /** Rejects when it doesn't answer. */
  status(): Promise<Status>;
  /** SIGKILL unless another one is named; resolves when it is gone. */
  kill(signal?: NodeJS.Signals): Promise<ChildExit>;
  /** SIGTERM, and SIGKILL after the grace. */
  stop(graceMs?: number): Promise<ChildExit>;
  /** The last lines of its log. */
  log(): string;
  /** Resolves when it ends and neither `kill` nor `stop` asked for it: the error holds its last log lines. */
  readonly died: Promise<Error>;
}

export interface ServiceOptions {
  readonly brokers: string;
  readonly topicPrefix?: string;
  /** A free one when left out. */
  readonly httpPort?: number;
  /** Any further variables; they win. */
  readonly env?: Readonly<Record<string, string>>;
  /** Keeps its log in this file. */
  readonly logFile?: string;
}

export interface CdcOptions extends ServiceOptions {
  readonly databaseUrl: string;
  readonly slot?: string;
  readonly tables?: string;
}

export interface RouterOptions extends ServiceOptions {
  readonly replicaUrl: string;
  readonly replicaName?: string;
  readonly tables?: string;
}

/** Resolves when the process is started: see `ready`. */
export function startCdc(options: CdcOptions): Promise<Service<CdcStatus>> {
  const { databaseUrl, slot, tables } = options;
  return startService("cdc", "cdc/src/main.ts", options, {
    CDC_DATABASE_URL: databaseUrl,
    ...(slot === undefined ? {} : { CDC_SLOT: slot }),
    ...(tables === undefined ? {} : { CDC_TABLES: tables }),
  });
}

/** Resolves when the process is started: see `ready`. */
export function startRouter(options: RouterOptions): Promise<Service<RouterStatus>> {
  const { replicaUrl, replicaName, tables } = options;
  const name = replicaName === undefined ? "shard-router" : `shard-router ${replicaName}`;
  return startService(name, "shard-router/src/main.ts", options, {
    REPLICA_URL: replicaUrl,
    ...(replicaName === undefined ? {} : { REPLICA_NAME: replicaName }),
    ...(tables === undefined ? {} : { ROUTER_TABLES: tables }),
  });
}

type Environment = Readonly<Record<string, string | undefined>>;

async function startService<Status>(
  name: string,
  main: string,
  options: ServiceOptions,
  own: Environment,
): Promise<Service<Status>> {
  const port = options.httpPort ?? (await freePort());
  const env = {
    ...inheritedEnvironment(),
    KAFKA_BROKERS: options.brokers,
    ...(options.topicPrefix === undefined ? {} : { KAFKA_TOPIC_PREFIX: options.topicPrefix }),
    HTTP_PORT: String(port),
    HTTP_HOST: "127.0.0.1",
    ...own,
    ...options.env,
  };
  const logFile = options.logFile === undefined ? {} : { logFile: options.logFile };
  const child = spawnChild([process.execPath, join(repository, main)], { cwd: repository, env, ...logFile });
  return serviceOf<Status>(name, child, `http://127.0.0.1:${port}`);
}

/** Without what configures a service: a variable left in the user's shell must not reach ours. */
function inheritedEnvironment(): Environment {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(KAFKA|CDC|ROUTER|REPLICA|HTTP|SHUTDOWN)_/.test(name)),
  );
}

function serviceOf<Status>(name: string, child: Child, httpUrl: string): Service<Status> {
  let asked = false;
  const end = (how: () => Promise<ChildExit>): Promise<ChildExit> => {
    asked = true;
    return how();
  };
  const died = new Promise<Error>((resolve) => {
    void child.exited.then((exit) => {
      if (!asked) resolve(withLog(`${name} ended by itself (${exit.signal ?? `status ${exit.code}`})`, child));
    });
  });
  const kill = (signal: NodeJS.Signals = "SIGKILL"): Promise<ChildExit> =>
    end(() => {
      if (signal === "SIGKILL") return child.killTree();
      child.signal(signal);
      return child.exited;
    });
  const stop = (graceMs = 15_000): Promise<ChildExit> => end(() => child.stop("SIGTERM", graceMs));
  return {
    name,
    child,
    httpUrl,
    ready: (withinMs = 60_000) => untilReady(name, child, httpUrl, withinMs),
    status: async () => (await ask(`${httpUrl}/status`)).json() as Promise<Status>,
    kill,
    stop,
    log: () => child.log(),
    died,
    [Symbol.asyncDispose]: async () => void (await stop()),
  };
}

async function untilReady(name: string, child: Child, httpUrl: string, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  let reasons = "it does not answer";
  while (performance.now() < deadline) {
    const answer = await Promise.race([
      child.exited,
      ask(`${httpUrl}/health/ready`).then(
        async (response) => (response.ok ? "ready" : response.text()),
        () => reasons,
      ),
    ]);
    if (answer === "ready") return;
    if (typeof answer !== "string")
      throw withLog(`${name} ended before it was ready (${answer.signal ?? `status ${answer.code}`})`, child);
    reasons = answer;
    await Promise.race([Bun.sleep(50), child.exited]);
  }
  throw withLog(`${name} is not ready after ${withinMs / 1000} s: ${reasons}`, child);
}

function ask(url: string): Promise<Response> {
  // A connection of its own: one kept open to a service that was killed and started again would fail the first request.
  return fetch(url, { signal: AbortSignal.timeout(3_000), keepalive: false });
}

function withLog(what: string, child: Child): Error {
  return new Error(`${what}. Its last log lines:\n${child.log().split("\n").slice(-20).join("\n")}`);
}
