import { COMMON_SETTINGS } from "@cascade/shared/config";
import { type Environment, integer, parsed, readSettings, type Settings, type Values } from "@cascade/shared/settings";

const SETTINGS = {
  WORKLOAD_DATABASE_URL: {
    kind: parsed("postgres://user:password@host:port/database", (value) => {
      if (!/^postgres(ql)?:\/\//.test(value) || !URL.canParse(value)) throw new SyntaxError("it is no PostgreSQL URL");
      return value;
    }),
    secret: true,
    file: true,
    meaning: "main-db, with the demo's tables (main-db/init)",
  },
  WORKLOAD_CHANGES_PER_SECOND: { kind: integer(1, 100_000), default: "20", meaning: "row changes a second" },
  WORKLOAD_SEED: {
    kind: integer(0, 2 ** 31 - 1),
    default: null,
    meaning: "the same seed on the same rows makes the same changes",
  },
  LOG_LEVEL: COMMON_SETTINGS.LOG_LEVEL,
} as const satisfies Settings;

export type WorkloadConfig = Values<typeof SETTINGS>;

/** Throws CascadeError CONFIGURATION naming every variable that is wrong. */
export const readWorkloadConfig = (environment: Environment): WorkloadConfig => readSettings(SETTINGS, environment);
