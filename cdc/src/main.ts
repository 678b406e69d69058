import { createLogger } from "@cascade/shared/logging";
import { giveUp, runService } from "@cascade/shared/service";
import packageJson from "../package.json";
import { captureService } from "./capture.ts";
import { type CdcConfig, readCdcConfig, unknownCdcVariables } from "./config.ts";

async function main(): Promise<number> {
  let config: CdcConfig;
  try {
    config = readCdcConfig(process.env);
  } catch (error) {
    return giveUp(error, createLogger("cdc", "info"));
  }
  return await runService(
    {
      name: "cdc",
      version: packageJson.version,
      logLevel: config.LOG_LEVEL,
      httpHost: config.HTTP_HOST,
      httpPort: config.HTTP_PORT,
      shutdownTimeoutMs: config.SHUTDOWN_TIMEOUT_MS,
    },
    (context) => {
      for (const name of unknownCdcVariables(process.env))
        context.logger.warn({ variable: name }, `${name} is no variable of cdc: ignored`);
      return captureService(config, context);
    },
  );
}

process.exit(await main());
