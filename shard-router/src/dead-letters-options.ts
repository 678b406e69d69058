import { parseArgs } from "node:util";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { HeldKey } from "./held-keys.ts";

export const DEAD_LETTERS_USAGE = `bun run --cwd shard-router dead-letters -- list|replay|discard [options]

What a replica's routers have held back under ROUTER_ON_ERROR=dead-letter. Reads the environment as they do; they need not be stopped
(but for DuckDB, which lets one process at a time have its file).

  list     the keys that are held back, why, and how many changes of each. Keys are shown, for they are what to choose by; no other value is
  replay   applies what is held back in order and releases the keys; what is refused again stays held, with the new error
  discard  gives the changes up. THE REPLICA THEN DIFFERS FROM MAIN-DB in these rows until they are copied again; how, is printed

  --tables PATTERNS  only of these tables: comma-separated schema.table, * within a part
  --key JSON         only this key, as list shows it, e.g. '{"id":42}'; may be given several times
  --all              discard alone needs it, where neither --tables nor --key is given
  --help             this text

Exit status: 0 done; 1 something is held back still, or failed; 78 the arguments or the environment are wrong.
`;

/** Its message is for people. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const VERBS = ["list", "replay", "discard"] as const;

export interface DeadLettersOptions {
  readonly verb: (typeof VERBS)[number];
  selects(prefix: string, key: HeldKey): boolean;
}

/** null when it asks for help. Throws UsageError. */
export function readDeadLettersOptions(args: readonly string[]): DeadLettersOptions | null {
  try {
    const { values, positionals } = parseArgs({
      args: args[0] === "--" ? args.slice(1) : [...args],
      options: {
        tables: { type: "string" },
        key: { type: "string", multiple: true },
        all: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
      allowPositionals: true,
    });
    if (values.help) return null;
    const verb = VERBS.find((one) => one === positionals[0]);
    if (verb === undefined || positionals.length > 1) throw new SyntaxError(`say one of ${VERBS.join(", ")}`);
    if (verb === "discard" && values.tables === undefined && values.key === undefined && !values.all)
      throw new SyntaxError("discard what? Say --key, --tables, or --all");
    const filter = parseTableFilter(values.tables ?? "*.*");
    const keys = values.key?.map(canonicalKey) ?? null;
    const selects = (prefix: string, { partition, text }: HeldKey) =>
      filter.matches(tableOfTopic(prefix, partition.topic) as TableName) && (keys === null || keys.includes(canonicalKey(text)));
    return { verb, selects };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** The order of the columns, and whether a number is quoted, is not what tells keys apart. */
function canonicalKey(text: string): string {
  let key: unknown;
  try {
    key = JSON.parse(text);
  } catch {
    throw new SyntaxError(`--key is not JSON: ${text}`);
  }
  if (typeof key !== "object" || key === null || Array.isArray(key))
    throw new SyntaxError(`--key is no JSON object such as {"id":42}`);
  return JSON.stringify(
    Object.entries(key)
      .map(([name, value]) => [name, String(value)])
      .toSorted(),
  );
}
