import { parseArgs } from "node:util";
import { readableSchemes, schemeOf } from "./canonical-state.ts";

export interface DemoOptions {
  /** Null: until it is interrupted. */
  readonly seconds: number | null;
  readonly changesPerSecond: number;
  /** Empty: a PostgreSQL and an SQLite file of the demo's own. */
  readonly replicas: readonly string[];
}

/** What the command line asks for: its message is for people. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export const usage = `npm run demo -- [options]

Runs Cascade on this machine: a PostgreSQL with wal2json (main-db), a Kafka, cdc, and one shard-router per replica;
writes to main-db all the while, and shows how the replicas follow. Ctrl-C ends it and removes its data.

  --seconds N     run that long, wait until the replicas have caught up, compare every table row by row and print the
                  verdict; exit status 0 when all are equal, 1 when not
  --rate N        row changes per second (500)
  --replica URL   a replica of yours instead of the demo's two, and again for more:
                  postgres://, mysql:// or mariadb://user:password@host:port/database, sqlite:///path/file.db or duckdb:///path/file.duckdb
                  Tables of the demo's names (customers, orders, ...) are written to.
  --help          this text
`;

/** Null when it asks for help. Throws UsageError. */
export function parseDemoOptions(args: readonly string[]): DemoOptions | null {
  const { values } = parse(args);
  if (values.help) return null;
  for (const url of values.replica ?? []) checkReplica(url);
  const seconds = values.seconds === undefined ? null : numberFrom("--seconds", values.seconds, 0.1, 86_400);
  const changesPerSecond = numberFrom("--rate", values.rate ?? "500", 1, 1_000_000);
  return { seconds, changesPerSecond, replicas: values.replica ?? [] };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        seconds: { type: "string" },
        rate: { type: "string" },
        replica: { type: "string", multiple: true },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function numberFrom(option: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (text.trim() !== "" && number >= least && number <= most) return number;
  throw new UsageError(`${option} is "${text}"; allowed: a number from ${least} to ${most}`);
}

/** Without the URL in the message: it may hold a password. */
function checkReplica(url: string): void {
  const scheme = schemeOf(url);
  if (!readableSchemes.includes(scheme))
    throw new UsageError(`--replica: scheme "${scheme}" is not one of the demo's (${readableSchemes.join(", ")})`);
  if (scheme !== "sqlite" && scheme !== "duckdb" && !URL.canParse(url))
    throw new UsageError("--replica is no URL; write postgres://user:password@host:port/database");
}
