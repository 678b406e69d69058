import { ERROR_CODES, type ErrorCodeEntry } from "@cascade/shared/error-codes";
import type { Verdict } from "@cascade/shared/errors";
import { KAFKA_REACTIONS, KAFKAJS_REACTIONS } from "@cascade/shared/kafka-reactions";
import { MAIN_DB_JUDGEMENTS } from "../cdc/src/postgres/session.ts";
import { DUCKDB_RULES } from "../shard-router/src/replicas/duckdb-errors.ts";
import { MYSQL_CLASSES, MYSQL_RULES } from "../shard-router/src/replicas/mysql-errors.ts";
import { POSTGRES_RULES } from "../shard-router/src/replicas/postgres-errors.ts";
import { SQLITE_RULES } from "../shard-router/src/replicas/sqlite-errors.ts";

/** docs/errors.md's tables, written from the codes and from what each server's own codes mean to us. */

interface Meaning {
  readonly code: string;
  readonly verdict: Verdict;
}
type Meanings = Iterable<readonly [string | number, Meaning]>;

const VERDICTS: Readonly<Record<Verdict, string>> = {
  retry: "tries again for ever",
  "stop-table": "stops the table",
  refuse: "exits 78",
  fatal: "exits 1",
};

export function errorTables(): string {
  const entries = Object.entries(ERROR_CODES) as [string, ErrorCodeEntry][];
  const by = (who: ErrorCodeEntry["by"]) => entries.filter(([, entry]) => entry.by === who);
  return [
    codeSection("Both services", by("both")),
    codeSection("cdc", by("cdc")),
    codeSection("shard-router", by("shard-router")),
    sourceSection("main-db, by SQLSTATE (longest beginning first; all others: MAIN_DB_ERROR)", MAIN_DB_JUDGEMENTS),
    sourceSection("A PostgreSQL replica, by SQLSTATE (exact ones before their classes)", Object.entries(POSTGRES_RULES)),
    sourceSection("A MySQL or MariaDB replica, by error number", MYSQL_RULES),
    sourceSection(
      "The same, by the SQLSTATE's class for other numbers (all others: REPLICA_ERROR)",
      Object.entries(MYSQL_CLASSES),
    ),
    sourceSection(
      "An SQLite replica, by result code (extended codes before the first part of their name)",
      Object.entries(SQLITE_RULES),
    ),
    sourceSection("A DuckDB replica, by exception type", Object.entries(DUCKDB_RULES)),
    sourceSection("Kafka, by protocol error (all others: KAFKA_ERROR)", KAFKA_REACTIONS),
    sourceSection("Kafka, by kafkajs's error class, where no protocol error is within", Object.entries(KAFKAJS_REACTIONS)),
  ].join("\n\n");
}

function codeSection(title: string, entries: readonly (readonly [string, ErrorCodeEntry])[]): string {
  const rows = entries.map(
    ([code, { verdict, means, cure }]) =>
      `| \`${code}\` | ${verdict.map((one) => VERDICTS[one]).join(", or ")} | ${cell(means)} | ${cell(cure)} |`,
  );
  return [`### ${title}`, "", "| code | what follows | what it means | cure |", "|---|---|---|---|", ...rows].join("\n");
}

/** One row for each meaning: the codes of the server that have it. */
function sourceSection(title: string, meanings: Meanings): string {
  const rows = Map.groupBy(meanings, ([, { code, verdict }]) => `| \`${code}\` | ${VERDICTS[verdict]} |`);
  const lines = [...rows].map(([meaning, codes]) => `${meaning} ${codes.map(([code]) => `\`${code}\``).join(", ")} |`);
  return [`### ${title}`, "", "| code | what follows | theirs |", "|---|---|---|", ...lines].join("\n");
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("<", "\\<");
