import { CascadeError } from "@cascade/shared/errors";

/** `what` describes the message's form; it never quotes its values. */
export function unknownMessage(what: string): CascadeError {
  return new CascadeError({
    code: "UNKNOWN_WAL_MESSAGE",
    verdict: "fatal",
    message: `the slot sent a message that this version of Cascade does not know: ${what}`,
    advice:
      "check that the slot's plugin is wal2json 2.5 or newer and that no other option was forced on it; nothing was confirmed past it, so an upgraded cdc goes on here",
  });
}
