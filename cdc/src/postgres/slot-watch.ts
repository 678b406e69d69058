import { pause } from "@cascade/shared/retry";
import { openSession, type Session } from "./session.ts";
import { type SlotState, slotState } from "./slot.ts";

const INTERVAL_MS = 5_000;

/**
 * Looks at the slot every few seconds over a session of its own. null while it cannot be seen: whether that is an error is the source's
 * to say, which reads the same server.
 */
export function watchSlot(databaseUrl: string, slot: string, onState: (state: SlotState | null) => void): AsyncDisposable {
  const stop = new AbortController();
  const watching = watch(databaseUrl, slot, onState, stop.signal);
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      // A look at a frozen server may last; nobody needs its answer.
      await Promise.race([watching, Bun.sleep(1_000)]);
    },
  };
}

async function watch(
  databaseUrl: string,
  slot: string,
  onState: (state: SlotState | null) => void,
  signal: AbortSignal,
): Promise<void> {
  let session: Session | null = null;
  while (!signal.aborted) {
    try {
      session ??= await openSession(databaseUrl);
      onState(await slotState(session.client, slot));
    } catch {
      onState(null);
      await session?.[Symbol.asyncDispose]();
      session = null;
    }
    await pause(INTERVAL_MS, signal);
  }
  await session?.[Symbol.asyncDispose]();
}
