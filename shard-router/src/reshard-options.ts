import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { UsageError } from "./dead-letters-options.ts";
import { parseReplicaUrl, type ReplicaTarget } from "./replicas/open-replica.ts";
import { parseShard, parseShardRules, type Shard, type ShardRules } from "./shard-rules.ts";

export const RESHARD_USAGE = `bun run --cwd shard-router reshard -- --shard INDEX/COUNT [--keys RULES] --beside REPLICA_URL... [options]

Divides a shard further while main-db is written to: the replica of the environment (that of its routers) takes a smaller part, once the
replicas beside it have the rest, and drops the rows that it gives up. Its routers need not be stopped before (but for DuckDB, which lets
one process at a time have its file): those that go by the rules from before end with SHARD_CHANGED, and are started anew with the
ROUTER_SHARD and ROUTER_SHARD_KEYS that are printed. Killed anywhere, it is to be run again, as it was. docs/sharding.md tells all of it.

  --shard INDEX/COUNT  the part that this replica takes, e.g. 0/4 where it has 0/2 now; left out where values and ranges alone say it
  --keys RULES         as ROUTER_SHARD_KEYS; those that the replica goes by now unless said otherwise
  --beside URL         a replica that takes over what this one gives up, as its routers' REPLICA_URL; may be given several times
  --beside-file FILE   the same, from a file: a URL may have a password, and everybody on the host sees a command
  --timeout SECONDS    give up when the replicas beside have not caught up by then; without it they are waited for
  --help               this text

Exit status: 0 done; 1 not done, or not all of it: run it again; 78 the arguments or the environment are wrong, or the parts do not fit
together: nothing was changed.
`;

export interface ReshardOptions {
  readonly shard: Shard | null;
  /** null: those that the replica goes by. */
  readonly rules: ShardRules | null;
  readonly beside: readonly ReplicaTarget[];
  readonly timeoutMs: number | null;
}

/** null when it asks for help. Throws UsageError. */
export function readReshardOptions(
  args: readonly string[],
  read = (path: string) => readFileSync(path, "utf8"),
): ReshardOptions | null {
  try {
    const { values, positionals } = parseArgs({
      args: args[0] === "--" ? args.slice(1) : [...args],
      options: {
        shard: { type: "string", multiple: true },
        keys: { type: "string", multiple: true },
        beside: { type: "string", multiple: true },
        "beside-file": { type: "string", multiple: true },
        timeout: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
      allowPositionals: true,
    });
    if (values.help) return null;
    // Which, is not said: it may be a URL with a password.
    if (positionals.length > 0) throw new SyntaxError("an argument belongs to no option: is --beside missing before a URL?");
    const [shard, keys] = [once("--shard", values.shard), once("--keys", values.keys)];
    if (shard === null && keys === null) throw new SyntaxError("which part? Say --shard, or --keys");
    const files = (values["beside-file"] ?? []).map((path) => named(`--beside-file ${path}`, () => read(path).trim()));
    const urls = [...(values.beside ?? []), ...files];
    return {
      shard: shard === null ? null : named(`--shard ${shard}`, () => parseShard(shard)),
      rules: keys === null ? null : named("--keys", () => parseShardRules(keys)),
      beside: urls.map((url, at) => named(`--beside, the ${at + 1}.`, () => parseReplicaUrl(url))),
      timeoutMs: values.timeout === undefined ? null : seconds(values.timeout) * 1000,
    };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function once(option: string, values: readonly string[] | undefined): string | null {
  if (values !== undefined && values.length > 1) throw new SyntaxError(`${option} is given twice`);
  return values?.[0] ?? null;
}

function named<T>(option: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new SyntaxError(`${option}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function seconds(text: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new SyntaxError("--timeout: it is not a number of seconds");
  return Number(text);
}
