import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";

export type SourceMessage =
  | { readonly kind: "change"; readonly event: ChangeEvent }
  /** Comes before the first change that names its id. */
  | { readonly kind: "schema"; readonly topic: string; readonly schema: TableSchema }
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
