import { parseArgs } from "node:util";
import { encodeSnapshotRequest, type SnapshotRequestMessage } from "@cascade/shared/snapshot-request";
import { decodeRequest } from "./signals.ts";

export const SNAPSHOT_USAGE = `bun run --cwd cdc snapshot -- --tables PATTERNS [options]

Asks the running cdc to copy tables again, by a message on <prefix>.signals. Reads the environment as cdc does.

  --tables PATTERNS  comma-separated schema.table, * within a part
  --replica NAME     for this replica alone, whose tables are emptied first; without it every replica gets the rows, on top of what it has
  --from JSON        from this key on, e.g. '{"id":"1000"}': all columns of the key, or the first of them
  --to JSON          up to this key, which is included
  --where SQL        only rows for which this is true
  --wait             tell how it gets on, until it is done
  --help             this text

Exit status: 0 asked for, or with --wait done; 1 it failed; 78 the arguments or the environment are wrong.
`;

/** Its message is for people. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface SnapshotOptions {
  readonly request: SnapshotRequestMessage;
  readonly wait: boolean;
}

/** Null when it asks for help. Throws UsageError. */
export function readSnapshotOptions(args: readonly string[]): SnapshotOptions | null {
  try {
    const { values } = parseArgs({
      args: args[0] === "--" ? args.slice(1) : [...args],
      options: {
        tables: { type: "string", multiple: true },
        replica: { type: "string" },
        from: { type: "string" },
        to: { type: "string" },
        where: { type: "string" },
        wait: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
    if (values.help) return null;
    if (values.tables === undefined) throw new SyntaxError("--tables is missing");
    const { tables, replica, from, to, where, wait = false } = values;
    const bound = (name: string, text: string | undefined) => (text === undefined ? {} : { [name]: JSON.parse(text) as never });
    const request: SnapshotRequestMessage = {
      type: "snapshot",
      tables,
      ...(replica === undefined ? {} : { replica }),
      ...bound("from", from),
      ...bound("to", to),
      ...(where === undefined ? {} : { where }),
    };
    decodeRequest("command", encodeSnapshotRequest(request)); // as cdc will
    return { request, wait };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
