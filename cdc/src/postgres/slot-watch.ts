import { pause } from "@cascade/shared/retry";
import { openSession, type Session } from "./session.ts";
import { lookAtSlot, type SlotLook } from "./slot-look.ts";

const INTERVAL_MS = 5_000;

/**
 * Looks at the slot every few seconds over a session of its own until `signal` aborts, whatever becomes of the service's lives: a slot
 * falls behind while Kafka is away. null while it cannot be seen: whether that is an error is the source's to say, which reads the same server.
 */
export async function watchSlot(
  databaseUrl: string,
  slot: string,
  onLook: (look: SlotLook | null) => void,
  signal: AbortSignal,
): Promise<void> {
  let session: Session | null = null;
  while (!signal.aborted) {
    let look: SlotLook | null = null;
    try {
      session ??= await openSession(databaseUrl);
      look = await lookAtSlot(session.client, slot);
    } catch {
      await session?.[Symbol.asyncDispose]();
      session = null;
    }
    onLook(look);
    await pause(INTERVAL_MS, signal);
  }
  await session?.[Symbol.asyncDispose]();
}
