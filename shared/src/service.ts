import { CascadeError } from "./errors.ts";
import { serveHttp } from "./http.ts";
import { createLogger, errorFields, errorText, type Logger } from "./logging.ts";
import { boundMemory } from "./memory-bound.ts";
import { backoffMs, pause } from "./retry.ts";
import { ServiceHealth } from "./service-health.ts";
import { type Environment, RefusalError } from "./settings.ts";
import { startTelemetry, type Telemetry } from "./telemetry.ts";

/** Above what a service needs while it works hard, and below a container's limit of 256 MiB. */
const MAX_RSS_BYTES = 170e6;

export const EXIT = { stopped: 0, failed: 1, refused: 78 } as const;

/** What a service is run with. */
export interface ServiceContext {
  readonly logger: Logger;
  readonly telemetry: Telemetry;
  readonly health: ServiceHealth;
}

export interface Service {
  /**
   * One life: opens fresh ports and works until `signal` aborts, then finishes what it has in hand and resolves. Rejects with a
   * CascadeError whose verdict says whether a new life may heal it. Calls `health.running()` once all ports are open.
   */
  live(signal: AbortSignal): Promise<void>;
  /** For /status, beside what every service tells. */
  status(): object;
  /** Of the process's memory, what an engine takes that is no garbage of ours. */
  readonly engineBytes?: number;
  /** Why it is not ready although it runs, e.g. a table that is held. */
  reasons(): readonly string[];
}

export interface ServiceOptions {
  readonly name: string;
  readonly version: string;
  readonly logLevel: string;
  readonly httpHost: string;
  readonly httpPort: number;
  readonly shutdownTimeoutMs: number;
}

interface CommonConfig {
  readonly LOG_LEVEL: string;
  readonly HTTP_HOST: string;
  readonly HTTP_PORT: number;
  readonly SHUTDOWN_TIMEOUT_MS: number;
}

/** What a service's main does: reads the environment, runs the service and ends the process with its exit status. */
export async function serviceMain<Config extends CommonConfig>(
  name: string,
  version: string,
  readConfig: (environment: Environment) => Config,
  unknownVariables: (environment: Environment) => readonly string[],
  create: (config: Config, context: ServiceContext) => Service,
): Promise<never> {
  let config: Config;
  try {
    config = readConfig(process.env);
  } catch (error) {
    process.exit(giveUp(error, createLogger(name, "info")));
  }
  const options = {
    name,
    version,
    logLevel: config.LOG_LEVEL,
    httpHost: config.HTTP_HOST,
    httpPort: config.HTTP_PORT,
    shutdownTimeoutMs: config.SHUTDOWN_TIMEOUT_MS,
  };
  const status = await runService(options, (context) => {
    for (const variable of unknownVariables(process.env)) {
      context.logger.warn({ variable }, `${variable} is no variable of this version of ${name}: ignored`);
    }
    const service = create(config, context);
    boundMemory(MAX_RSS_BYTES + (service.engineBytes ?? 0));
    return service;
  });
  process.exit(status);
}

/** Runs a service until it is asked to stop or cannot go on, and resolves to its exit status (contract.md §2). */
export async function runService(options: ServiceOptions, create: (context: ServiceContext) => Service): Promise<number> {
  const logger = createLogger(options.name, options.logLevel);
  const telemetry = await startTelemetry(options.name, options.version);
  const health = new ServiceHealth();
  const service = create({ logger, telemetry, health });
  const reasons = () => [...health.reasons(), ...service.reasons()];
  telemetry.observe("cascade_ready", () => [{ value: Number(reasons().length === 0) }]);
  try {
    await using http = serveHttp({
      host: options.httpHost,
      port: options.httpPort,
      readiness: reasons,
      status: () => statusOf(options, health, service),
      metrics: () => telemetry.metricsText(),
    });
    logger.info({ version: options.version, http: `${options.httpHost}:${http.port}` }, `${options.name} started`);
    return await liveOn(service, health, logger, stopSignal(options, logger));
  } catch (error) {
    return giveUp(error, logger);
  } finally {
    await telemetry[Symbol.asyncDispose]();
  }
}

function statusOf({ name, version }: ServiceOptions, health: ServiceHealth, service: Service): object {
  const reasons = [...health.reasons(), ...service.reasons()];
  return {
    service: name,
    version,
    ready: reasons.length === 0,
    reasons,
    state: health.state,
    lastError: health.lastError,
    ...service.status(),
  };
}

/** One life after the other. Resolves to the exit status; rejects when no further life would help. */
async function liveOn(service: Service, health: ServiceHealth, logger: Logger, signal: AbortSignal): Promise<number> {
  for (let failures = 1; ; failures++) {
    const ended = new AbortController();
    try {
      await Promise.race([service.live(signal), stoppedBeforeRunning(health, signal, ended.signal)]);
      if (!signal.aborted) throw new Error("the pipeline ended by itself");
    } catch (error) {
      if (!(error instanceof CascadeError) || error.verdict === "refuse" || error.verdict === "fatal") throw error;
      // What ran well for a while is not the failure of before.
      if (health.ranForMs() > HEALTHY_MS) failures = 1;
      const delayMs = error.retryAfterMs ?? backoffMs(failures);
      const news = health.failed(error);
      if (!signal.aborted) logger[news ? "warn" : "debug"]({ ...errorFields(error), retryInMs: delayMs }, errorText(error));
      await pause(delayMs, signal);
    } finally {
      ended.abort();
    }
    if (signal.aborted) {
      logger.info("stopped");
      return EXIT.stopped;
    }
  }
}

const HEALTHY_MS = 10_000;

/** While ports are being opened nothing is in hand: whoever asks for the end then need not wait for servers that are away. */
async function stoppedBeforeRunning(health: ServiceHealth, signal: AbortSignal, ended: AbortSignal): Promise<void> {
  await aborted(signal, ended);
  if (health.state === "running") await new Promise<never>(() => {});
}

/** Never resolves once `ended`: a life leaves no listener behind. */
function aborted(signal: AbortSignal, ended: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true, signal: ended }));
}

/** Aborts at the first SIGTERM or SIGINT; past the deadline, or at the second, the process ends at once. */
function stopSignal({ shutdownTimeoutMs }: ServiceOptions, logger: Logger): AbortSignal {
  const stop = new AbortController();
  const onSignal = (name: NodeJS.Signals): void => {
    if (stop.signal.aborted) {
      logger.error(`second ${name}: ending at once`);
      process.exit(EXIT.failed);
    }
    logger.info({ shutdownTimeoutMs }, `${name}: finishing the batch in hand`);
    stop.abort();
    setTimeout(() => {
      logger.error(
        { shutdownTimeoutMs },
        "the batch in hand was not finished within SHUTDOWN_TIMEOUT_MS; nothing is lost, the next start repeats it",
      );
      process.exit(EXIT.failed);
    }, shutdownTimeoutMs);
  };
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => onSignal(name));
  return stop.signal;
}

/** Says why the process ends, each finding with its cure, and with what status. */
function giveUp(error: unknown, logger: Logger): number {
  const findings = error instanceof RefusalError ? error.findings : [error];
  for (const finding of findings) logger.fatal(errorFields(finding), errorText(finding));
  return error instanceof CascadeError && error.verdict === "refuse" ? EXIT.refused : EXIT.failed;
}
