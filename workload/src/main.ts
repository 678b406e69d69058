import { describeError } from "@cascade/shared/errors";
import { createLogger, type Logger } from "@cascade/shared/logging";
import { backoffMs, pause } from "@cascade/shared/retry";
import { Client } from "pg";
import { readWorkloadConfig, type WorkloadConfig } from "./config.ts";
import { randomOf } from "./random.ts";
import { runWorkload } from "./workload.ts";

const QUERY_TIMEOUT_MS = 30_000;
/** A main-db that hangs is not waited for. */
const END_MS = 3_000;

/** Writes the demo's changes until it is asked to stop. A main-db that is away is tried again for ever. */
async function main(): Promise<number> {
  const config = configured();
  if (config === null) return 78;
  const logger = createLogger("workload", config.LOG_LEVEL);
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const)
    process.on(name, () => {
      stop.abort();
      setTimeout(() => process.exit(0), END_MS);
    });
  let seed = config.WORKLOAD_SEED ?? randomOf(Date.now()).between(0, 2 ** 31 - 1);
  for (let failures = 1; !stop.signal.aborted; failures++, seed++) {
    const startedAt = performance.now();
    try {
      await write(config, seed, logger, stop.signal);
    } catch (error) {
      // What went well for a while is not the failure of before.
      if (performance.now() - startedAt > 10_000) failures = 1;
      const retryInMs = Math.round(backoffMs(failures));
      logger.warn({ retryInMs }, `main-db does not take the workload: ${describeError(error)}`);
      await pause(retryInMs, stop.signal);
    }
  }
  logger.info("stopped");
  return 0;
}

function configured(): WorkloadConfig | null {
  try {
    return readWorkloadConfig(process.env);
  } catch (error) {
    createLogger("workload", "info").fatal(describeError(error));
    return null;
  }
}

async function write(config: WorkloadConfig, seed: number, logger: Logger, signal: AbortSignal): Promise<void> {
  const client = new Client({
    connectionString: config.WORKLOAD_DATABASE_URL,
    application_name: "cascade-workload",
    connectionTimeoutMillis: 10_000,
    // A main-db that does not answer any more is one that is away.
    query_timeout: QUERY_TIMEOUT_MS,
    keepAlive: true,
  });
  // The query that is under way tells of it, or the next one.
  client.on("error", () => undefined);
  try {
    await client.connect();
    const changesPerSecond = config.WORKLOAD_CHANGES_PER_SECOND;
    logger.info({ changesPerSecond, seed }, "writing to main-db");
    await runWorkload(client, { seed, changesPerSecond, signal });
  } finally {
    await Promise.race([client.end().catch(() => undefined), Bun.sleep(END_MS)]);
  }
}

process.exit(await main());
