import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { SourceHeartbeat, SourceMessage } from "./change-source.ts";
import type { Announcement } from "./event-publisher.ts";

export interface BatchLimits {
  readonly maxRows: number;
  /** Of the rows' JSON; a single larger row is a batch of its own. */
  readonly maxBytes: number;
}

/** What is published together. */
export interface ChangeBatch {
  /** Announced before the events. */
  readonly schemas: readonly Announcement[];
  readonly events: readonly ChangeEvent[];
  /** Once they are durable, everything up to here is: the end of the last whole transaction, or a keepalive's. Null inside a transaction. */
  readonly confirmable: Lsn | null;
  readonly transactions: number;
  /** The last one: told once the events are durable. */
  readonly heartbeat: SourceHeartbeat | null;
}

/** Cuts messages, in order, into batches within the limits. Pure. A transaction may span batches, and only its last one confirms it. */
export function batchesOf(messages: readonly SourceMessage[], { maxRows, maxBytes }: BatchLimits): readonly ChangeBatch[] {
  const batches: ChangeBatch[] = [];
  let batch = emptyBatch();
  let bytes = 0;
  for (const message of messages) {
    switch (message.kind) {
      case "change": {
        const size = sizeOf(message.event);
        if (batch.events.length > 0 && (batch.events.length >= maxRows || bytes + size > maxBytes)) {
          batches.push(batch);
          batch = emptyBatch();
          bytes = 0;
        }
        batch.events.push(message.event);
        bytes += size;
        break;
      }
      case "schema":
      case "dropped":
        // What was captured before a change is durable before it is told of.
        if (isChange(message) && batch.events.length > 0) {
          batches.push(batch);
          batch = emptyBatch();
          bytes = 0;
        }
        batch.schemas.push(message);
        break;
      case "table":
      case "left":
      case "mark":
        break;
      case "heartbeat":
        batch.heartbeat = message;
        break;
      case "commit":
        batch.confirmable = message.endLsn;
        batch.transactions++;
        break;
      case "keepalive":
        batch.confirmable = message.walEnd;
        break;
    }
  }
  batches.push(batch);
  return batches;
}

const isChange = (news: Announcement): boolean => news.kind === "dropped" || news.change;

const emptyBatch = () => ({
  schemas: [] as Announcement[],
  events: [] as ChangeEvent[],
  confirmable: null as Lsn | null,
  transactions: 0,
  heartbeat: null as SourceHeartbeat | null,
});

const sizeOf = ({ before, after, key }: ChangeEvent): number => (before?.length ?? 0) + (after?.length ?? 0) + (key?.length ?? 0);
