import { decodeChangeEvent, type ReceivedEvent } from "@cascade/shared/change-event";
import type { RawEvent } from "./event-consumer.ts";

/** What the message says; null for a tombstone. Throws as `decodeChangeEvent` does where it is no event. */
export function eventOf(raw: RawEvent): ReceivedEvent | null {
  if (raw.decoded) return raw.decoded;
  return raw.value === null ? null : decodeChangeEvent(raw.value);
}
