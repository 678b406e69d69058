import type { CascadeError } from "@cascade/shared/errors";
import type { Copy } from "./copies.ts";

/** Who is told how copies get on. */
export interface SnapshotReport {
  waiting(copy: Copy): void;
  begins(copy: Copy): void;
  /** More of its rows are durable. */
  progress(copy: Copy): void;
  ended(copy: Copy): void;
  /** Begun anew as another, or nothing any more. */
  replaced(copy: Copy): void;
  refused(copy: Copy, error: CascadeError): void;
  /** A request was taken. */
  accepted(request: string, copies: readonly Copy[]): void;
  warn(message: string): void;
}
