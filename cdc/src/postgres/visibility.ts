import { CascadeError } from "@cascade/shared/errors";
import { pause } from "@cascade/shared/retry";
import type pg from "pg";
import { parseSnapshot, sees } from "./snapshot.ts";

const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 250;
const TELL_AFTER_MS = 1_000;
const GIVE_UP_AFTER_MS = 60_000;

/**
 * Resolves with true when queries of this session see what the transactions wrote, with false when `signal` aborted first. A transaction
 * is sent when it is on main-db's disk; others see it only after that, and while it waits for a synchronous standby not at all.
 */
export async function untilVisible(
  client: pg.Client,
  txIds: readonly number[],
  { warn, signal }: { readonly warn: (message: string) => void; readonly signal: AbortSignal },
): Promise<boolean> {
  const startedAtMs = performance.now();
  let told = false;
  for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const { rows } = await client.query<{ readonly text: string }>("SELECT pg_current_snapshot()::text AS text");
    const snapshot = parseSnapshot(rows[0]?.text ?? "");
    if (txIds.every((txId) => sees(snapshot, txId))) return true;
    const waitedMs = performance.now() - startedAtMs;
    if (waitedMs > GIVE_UP_AFTER_MS) throw unseen();
    if (waitedMs > TELL_AFTER_MS && !told) {
      told = true;
      warn(unseen().message);
    }
    await pause(pauseMs, signal);
  }
  return false;
}

function unseen(): CascadeError {
  return new CascadeError({
    code: "COMMIT_NOT_VISIBLE",
    verdict: "retry",
    message: "a committed transaction is not visible on main-db yet: it may wait for a synchronous standby, and cdc waits for it",
    advice: "see to the standbys that synchronous_standby_names names on main-db; cdc goes on by itself",
  });
}
