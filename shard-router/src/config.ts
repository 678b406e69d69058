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
import { ERROR_POLICIES } from "./dead-letters.ts";
import { Ownership } from "./ownership.ts";
import { parseReplicaUrl, REPLICA_URL_FORMS, type ReplicaTarget } from "./replicas/open-replica.ts";
import { SCHEMA_POLICIES } from "./schema-change.ts";
import { parseShard, parseShardRules, type Shard, type ShardRules } from "./shard-rules.ts";

const NAME = /^[A-Za-z0-9._-]{1,100}$/;

/** Every variable of shard-router (contract.md §2); the README's table is generated from here. */
export const ROUTER_SETTINGS = {
  REPLICA_URL: {
    kind: parsed<ReplicaTarget>(REPLICA_URL_FORMS, parseReplicaUrl),
    secret: true,
    file: true,
    meaning: "the replica; its scheme picks the dialect",
  },
  REPLICA_NAME: {
    kind: text("letters, digits, `.`, `_`, `-`; at most 100", NAME),
    default: null,
    shownDefault: "from the URL (database or file name)",
    meaning:
      "names the replica in metrics, logs and the consumer group `<prefix>.<REPLICA_NAME>`: same name = routers share one replica",
  },
  ROUTER_TABLES: {
    kind: parsed<TableFilter>("comma-separated `schema.table` patterns, `*` within a part, a leading `!` excludes", (value) =>
      parseTableFilter(value),
    ),
    default: "*.*",
    meaning: "which tables this replica takes",
  },
  ROUTER_SHARD: {
    kind: parsed<Shard>("`index/count`, e.g. `0/4`", parseShard),
    default: null,
    meaning:
      "the replica holds the rows whose shard key hashes to it: one of so many parts, of which the first is 0 (docs/sharding.md)",
  },
  ROUTER_SHARD_KEYS: {
    kind: parsed<ShardRules>(
      "comma-separated `schema.table=rule`; a rule is `column`, `column+column`, `*`, `column:value|value` or `column:from..to`",
      parseShardRules,
    ),
    default: null,
    shownDefault: "primary key",
    meaning:
      "what a table is divided by, of the first rule that names it: columns that are hashed, `*` for all of it on every shard, or the values of a column that this replica holds",
  },
  ROUTER_DDL: {
    kind: oneOf(...SCHEMA_POLICIES),
    default: "apply",
    meaning:
      "schema changes: `apply` mirrors them, `additive` only makes tables and adds columns, `off` only makes tables; a table that does not take main-db's rows without more stops, with the SQL that mends it",
  },
  ROUTER_ON_ERROR: {
    kind: oneOf(...ERROR_POLICIES),
    default: "stop",
    meaning:
      "a row the replica refuses: `stop` holds that table's partition and says why while the others go on; `dead-letter` sends the row and all later changes to the same key to `<prefix>.dead-letters.<REPLICA_NAME>` and goes on with the other keys, until `dead-letters replay` or `discard`",
  },
  ROUTER_MAX_HELD_KEYS: {
    kind: integer(1, 100_000),
    default: "1000",
    meaning: "most keys of one table that may be held back under `dead-letter`; past that the table stops as under `stop`",
  },
  ROUTER_BATCH_ROWS: { kind: integer(1, 1_000_000), default: "5000", meaning: "most events in one replica transaction" },
  ROUTER_BATCH_BYTES: {
    kind: integer(1024, 100_000_000),
    default: "4194304",
    meaning: "most bytes of events in one replica transaction",
  },
  ROUTER_BATCH_LINGER_MS: {
    kind: integer(0, 10_000),
    default: "5",
    meaning:
      "shortest time from one batch of a partition to its next under light load; the first change after a pause goes at once",
  },
  ...COMMON_SETTINGS,
} as const satisfies Settings;

type RouterValues = Values<typeof ROUTER_SETTINGS>;
export type RouterConfig = RouterValues & { readonly replicaName: string; readonly ownership: Ownership };

/** Throws CascadeError CONFIGURATION naming every variable that is wrong. */
export function readRouterConfig(environment: Environment): RouterConfig {
  const values = readSettings(ROUTER_SETTINGS, environment, (read) => [
    ...checkCommon(read),
    ...checkName(read),
    ...checkShard(read),
  ]);
  const ownership = new Ownership(values.ROUTER_SHARD, values.ROUTER_SHARD_KEYS);
  return { ...values, replicaName: values.REPLICA_NAME ?? values.REPLICA_URL.defaultName, ownership };
}

function checkShard({ ROUTER_SHARD: shard, ROUTER_SHARD_KEYS: keys }: RouterValues): readonly string[] {
  if (shard !== null || !keys?.rules.some(({ rule }) => rule.kind === "hash")) return [];
  return ["ROUTER_SHARD_KEYS names columns to hash by, and ROUTER_SHARD is not set; set it to index/count"];
}

/** The name is part of a consumer group's and of a topic's name. */
function checkName({ REPLICA_NAME, REPLICA_URL }: RouterValues): readonly string[] {
  if (REPLICA_NAME !== null || NAME.test(REPLICA_URL.defaultName)) return [];
  return [
    `REPLICA_NAME is not set, and the database's or file's own name cannot serve; set it: ${ROUTER_SETTINGS.REPLICA_NAME.kind.allowed}`,
  ];
}

export const unknownRouterVariables = (environment: Environment): readonly string[] =>
  unknownVariables(ROUTER_SETTINGS, environment, ["ROUTER_", "REPLICA_", "KAFKA_"]);
