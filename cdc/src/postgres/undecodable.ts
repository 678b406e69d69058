import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError } from "@cascade/shared/errors";
import type { Lsn } from "@cascade/shared/lsn";
import { openSession } from "./session.ts";
import { advanceSlot } from "./slot.ts";

/**
 * What reading a slot fails with where wal2json cannot decode a transaction. Often it can when that is the first one it is asked for:
 * CREATE INDEX CONCURRENTLY beside a transaction that changes the table makes it fail ("could not open relation with OID") when it has
 * decoded a younger one before (https://github.com/eulerto/wal2json/issues/218). So whoever reads the slot makes sure that the next try
 * begins behind all that was published; else the same transactions would fail together for ever, and main-db would keep its WAL.
 */
export const UNDECODABLE: ErrorCode = "MAIN_DB_ERROR";

const PROMPTLY_MS = 100;

/** For a reader that got further than the one before: there may be one such transaction after the other, and each is a step. */
export function promptly({ code, verdict, message, advice, cause }: CascadeError): CascadeError {
  return new CascadeError({ code, verdict, message, advice, cause, retryAfterMs: PROMPTLY_MS });
}

/** Moves the slot over a session of its own: a walsender that has failed does not read what it is told any more. */
export function advancing(databaseUrl: string, slot: string): (through: Lsn) => Promise<void> {
  return async (through) => {
    await using session = await openSession(databaseUrl);
    await advanceSlot(session.client, slot, through);
  };
}
