import type { ErrorCode } from "../src/error-codes.ts";
import { CascadeError, type Verdict } from "../src/errors.ts";
import { serviceMain } from "../src/service.ts";
import { integer, oneOf, RefusalError, readSettings, text } from "../src/settings.ts";

/** A service whose lives do what BEHAVIOUR says: run as a process of its own by service.test.ts. */

const COMMON = {
  LOG_LEVEL: { kind: text("any"), default: "info", meaning: "" },
  HTTP_HOST: { kind: text("any"), default: "127.0.0.1", meaning: "" },
  HTTP_PORT: { kind: integer(0, 65_535), default: "0", meaning: "" },
  SHUTDOWN_TIMEOUT_MS: { kind: integer(0, 60_000), default: "300", meaning: "" },
  BEHAVIOUR: { kind: oneOf("work", "hang", "opening", "heal", "refuse", "fatal", "bug"), meaning: "what its lives do" },
} as const;

const failure = (code: ErrorCode, verdict: Verdict) =>
  new CascadeError({ code, verdict, message: `${code} happened`, advice: `mend ${code}` });

await serviceMain(
  "fixture",
  "0",
  (environment) => readSettings(COMMON, environment),
  () => [],
  (config, { health }) => {
    let lives = 0;
    const until = (signal: AbortSignal) => new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    return {
      status: () => ({ lives }),
      reasons: () => [],
      live: async (signal) => {
        lives++;
        switch (config.BEHAVIOUR) {
          case "opening":
            return new Promise(() => {});
          case "refuse":
            throw new RefusalError([failure("WAL_LEVEL", "refuse"), failure("PLUGIN_MISSING", "refuse")]);
          case "fatal":
            throw failure("SCHEMA_DRIFT", "fatal");
          case "bug":
            throw new TypeError("a bug");
          case "heal":
            if (lives < 3) throw failure("MAIN_DB_AWAY", "retry");
            health.running();
            return until(signal);
          case "hang":
            health.running();
            return new Promise(() => {});
          case "work":
            health.running();
            return until(signal);
        }
      },
    };
  },
);
