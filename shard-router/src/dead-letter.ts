import type { Position } from "@cascade/shared/lsn";
import type { TableName } from "@cascade/shared/topic";
import type { Partition, RawEvent } from "./event-consumer.ts";
import type { Cause } from "./held-keys.ts";

/** An event that a replica was led past (contract.md §3: `<prefix>.dead-letters.<replica>`). */
export interface DeadLetter {
  readonly table: TableName;
  /** Where it comes from. */
  readonly partition: Partition;
  /** Unchanged. */
  readonly event: RawEvent & { readonly value: string };
  readonly position: Position;
  readonly cause: Cause;
}

/** Where dead letters go, and stay. */
export interface DeadLetterLog extends AsyncDisposable {
  /** Resolves when every in-sync broker has them, in order. On rejection any of them may be there: they come again, with their positions. */
  publish(letters: readonly DeadLetter[]): Promise<void>;
}

/** The cause of a change that is held back for nothing of its own. */
export const KEY_HELD: Cause = {
  code: "KEY_HELD",
  message: "an earlier change of this key is held back",
  advice: "see to the cause of that one; `bun run --cwd shard-router dead-letters replay` then applies all of them in order",
};
