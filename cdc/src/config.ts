import { COMMON_SETTINGS, checkCommon } from "@cascade/shared/config";
import {
  type Environment,
  integer,
  oneOf,
  parsed,
  readSettings,
  type Settings,
  text,
  unknownVariables,
  type Values,
} from "@cascade/shared/settings";
import { parseTableFilter, type TableFilter } from "@cascade/shared/table-pattern";

const DEFAULT_TABLES = "public.*";

/** Every variable of cdc (contract.md §2); the README's table is generated from here. */
export const CDC_SETTINGS = {
  CDC_DATABASE_URL: {
    kind: parsed("postgres://user:password@host:port/database?sslmode=...", checkDatabaseUrl),
    secret: true,
    file: true,
    meaning:
      "main-db; the role needs LOGIN, REPLICATION and SELECT on the captured tables (with CDC_SNAPSHOT=never only with wal2json before 2.6, on tables with `real`, `double precision` or `numeric` columns)",
  },
  CDC_SLOT: {
    kind: text("lower-case letters, digits, `_`; at most 63", /^[a-z0-9_]{1,63}$/),
    default: "cascade",
    meaning: "logical replication slot; created if missing and nothing was ever published from it",
  },
  CDC_MODE: {
    kind: oneOf("stream", "poll"),
    default: "stream",
    meaning:
      "`stream`: replication connection; `poll`: the slot is read by SQL, for servers that allow no replication connection",
  },
  CDC_POLL_INTERVAL_MS: { kind: integer(1, 60_000), default: "100", meaning: "pause of `poll` when nothing came" },
  CDC_TABLES: {
    kind: parsed<TableFilter>("comma-separated `schema.table` patterns, `*` within a part, a leading `!` excludes", (value) =>
      parseTableFilter(value, DEFAULT_TABLES),
    ),
    default: DEFAULT_TABLES,
    meaning: "tables to capture",
  },
  CDC_SNAPSHOT: {
    kind: oneOf("initial", "never"),
    default: "initial",
    meaning: "`initial`: tables that were never copied are, beside the stream of their changes; `never`: only what is asked for",
  },
  CDC_SNAPSHOT_CHUNK_ROWS: {
    kind: integer(1, 1_000_000),
    default: "10000",
    meaning: "most rows of a table that are read in one transaction",
  },
  CDC_BATCH_ROWS: { kind: integer(1, 1_000_000), default: "2000", meaning: "most changes in one request to Kafka" },
  CDC_BATCH_BYTES: {
    kind: integer(1024, 100_000_000),
    default: "4194304",
    meaning: "most bytes of rows, as JSON, in one request to Kafka",
  },
  CDC_BATCH_LINGER_MS: {
    kind: integer(0, 10_000),
    default: "5",
    meaning: "shortest time from one batch to the next under light load; the first change after a pause goes at once",
  },
  CDC_DDL: {
    kind: oneOf("auto", "required", "off"),
    default: "auto",
    meaning:
      "schema changes: `auto` installs event triggers on main-db (schema `cascade_cdc`) when the role may (a superuser, or the main user of some services), and else looks at the catalog, with a warning; `required` refuses to start then; `off` installs nothing",
  },
  CDC_HEARTBEAT_INTERVAL_MS: {
    kind: integer(0, 3_600_000),
    default: "5000",
    meaning:
      "a message in main-db's WAL, so that it is released while no captured table changes, and one on `<prefix>.heartbeat`; 0: none",
  },
  CDC_ON_SLOT_LOST: {
    kind: oneOf("stop", "resnapshot"),
    default: "stop",
    meaning:
      "the slot lost WAL, is gone, or was moved by somebody else: `stop` stops cdc with the cure; `resnapshot` makes a new one, and every replica empties its tables and gets them anew",
  },
  KAFKA_PARTITIONS: {
    kind: integer(1, 1_000),
    default: "1",
    meaning:
      "partitions of a table topic that cdc creates, over which rows are divided by their key; topics that are there keep theirs",
  },
  KAFKA_REPLICATION_FACTOR: {
    kind: integer(-1, 100),
    default: "-1",
    meaning: "of the topics that cdc creates; -1 is the brokers' default",
  },
  KAFKA_COMPRESSION: { kind: oneOf("none", "gzip", "zstd"), default: "none", meaning: "of the messages" },
  ...COMMON_SETTINGS,
} as const satisfies Settings;

export type CdcConfig = Values<typeof CDC_SETTINGS>;

/** Throws CascadeError CONFIGURATION naming every variable that is wrong. */
export function readCdcConfig(environment: Environment): CdcConfig {
  return readSettings(CDC_SETTINGS, environment, (values) => [...checkCommon(values), ...checkRepair(values)]);
}

function checkRepair(values: CdcConfig): readonly string[] {
  if (values.CDC_ON_SLOT_LOST !== "resnapshot" || values.CDC_SNAPSHOT === "initial") return [];
  return ["CDC_ON_SLOT_LOST is resnapshot, which copies tables, with CDC_SNAPSHOT=never; set CDC_SNAPSHOT=initial"];
}

export const unknownCdcVariables = (environment: Environment): readonly string[] =>
  unknownVariables(CDC_SETTINGS, environment, ["CDC_", "KAFKA_"]);

function checkDatabaseUrl(value: string): string {
  if (!/^postgres(ql)?:\/\//.test(value)) throw new SyntaxError("it does not begin with postgres://");
  if (!URL.canParse(value)) throw new SyntaxError("it cannot be read: special characters of a password are written %XX");
  const { hostname, searchParams, pathname } = new URL(value);
  if (hostname === "" && !searchParams.has("host")) throw new SyntaxError("it names no host");
  if (pathname.length < 2) throw new SyntaxError("it names no database");
  return value;
}
