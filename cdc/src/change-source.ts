import type { ChangeEvent, EventTable, EventTransaction } from "@cascade/shared/change-event";
import type { Lsn, Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";

/** A logical message of ours, where it stands in WAL order: it has a position as a row has. */
export interface SourceMark {
  readonly kind: "mark";
  readonly prefix: string;
  readonly content: string;
  readonly transaction: EventTransaction;
  readonly ordinal: number;
  readonly lsn: Lsn;
  /** Of a snapshot's mark: the table that it names, as rows that stand there are written; null when that is not captured, or of another prefix. */
  readonly table: EventTable | null;
}

/** Comes before the first change that names its id. */
export interface TableChanged {
  readonly kind: "schema";
  readonly topic: string;
  readonly schema: TableSchema;
  /** From there on the table looks like this. */
  readonly at: Position;
  /** What came before is to be durable before this is said; else it only must be said before the rows that name it. */
  readonly change: boolean;
  /** The table's rows were changed past the WAL: it is to be copied again. */
  readonly rewritten?: true;
  /** It was not captured for a while: rows that went meanwhile are still on the replicas. */
  readonly returned?: true;
}

/** Said in each life before the first row with this `table`, whatever was announced before: rows of this schema are to come. */
export interface TableMet {
  readonly kind: "table";
  readonly table: EventTable;
  readonly schema: TableSchema;
}

/** A change as well. */
export interface TableDropped extends TableName {
  readonly kind: "dropped";
  readonly oid: number;
  readonly at: Position;
}

/** The table is there, and not captured any more: what changes in it from here on is in no topic. */
export interface TableLeft extends TableName {
  readonly kind: "left";
  readonly oid: number;
}

/** A heartbeat of this cdc's own slot, where it stands in WAL order. */
export interface SourceHeartbeat {
  readonly kind: "heartbeat";
  readonly commitLsn: Lsn;
  readonly committedAtMs: number;
}

export type SourceMessage =
  | { readonly kind: "change"; readonly event: ChangeEvent }
  | TableChanged
  | TableMet
  | TableDropped
  | TableLeft
  | SourceMark
  | SourceHeartbeat
  | { readonly kind: "commit"; readonly endLsn: Lsn; readonly committedAtMs: number }
  | { readonly kind: "keepalive"; readonly walEnd: Lsn };

/** Where changes come from. Failures reject `messages` with a CascadeError; the caller opens a fresh source. */
export interface ChangeSource extends AsyncDisposable {
  /**
   * WAL order, from the slot's confirmed LSN: arrays of everything at hand, never one await per row. Not pulling pauses the socket
   * (memory stays bounded) while status updates keep flowing. Ends only when `signal` aborts.
   */
  messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]>;
  /** Everything ending at or before `through` is durable downstream: the server may forget it. Never moves back, never lands inside a transaction. */
  confirm(through: Lsn): void;
}
