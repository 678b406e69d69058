import type { RowJson } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { Snapshot } from "../postgres/snapshot.ts";
import type { SnapshotMark } from "./mark.ts";

/** Texts of key columns by name: of all of them, or of the first ones. */
export type KeyTexts = Readonly<Record<string, string>>;

/** Which rows of a table: those between two keys, both included, for which `where` is true. */
export interface RowRange {
  readonly from: KeyTexts | null;
  readonly to: KeyTexts | null;
  /** SQL over the table's columns. */
  readonly where: string | null;
}

/** The next rows after a key, or the rows that have these keys. */
export type ChunkPlan =
  | { readonly kind: "range"; readonly after: RowJson | null }
  | { readonly kind: "rows"; readonly keys: readonly RowJson[] };

export type SnapshotRow = readonly [key: RowJson | null, row: RowJson];

export interface ChunkRows {
  readonly rows: readonly SnapshotRow[];
  /** No row comes after these. */
  readonly last: boolean;
}

/** A table as the catalog has it in the transaction that reads it. */
export interface TableFound {
  readonly snapshot: Snapshot;
  readonly schema: TableSchema;
}

/** A table whose rows can be copied: an ordinary one, or the root of a partition tree. */
export interface CopyTable {
  readonly schema: TableSchema;
  /** By the planner's statistics; null where there are none yet. */
  readonly estimatedRows: number | null;
  readonly bytes: number;
}

/** How rows of main-db's tables are read. Failures are CascadeErrors; verdict stop-table: this copy cannot go on, the others can. */
export interface TableReader extends AsyncDisposable {
  /** What queries see now. */
  snapshot(): Promise<Snapshot>;
  /** Whether commits wait for a standby: they are in the WAL then, long before anyone sees them. */
  waitsForStandby(): Promise<boolean>;
  /**
   * Reads a chunk in a transaction of its own. `found` is told the snapshot before the rows are read, and says whether it will do; null
   * when it will not. "gone" when there is no such table any more.
   */
  chunk(oid: number, plan: ChunkPlan, range: RowRange, found: (table: TableFound) => boolean): Promise<ChunkRows | null | "gone">;
  /** Reads all rows in one transaction; `take` is awaited before more is read. */
  scan(
    oid: number,
    found: (table: TableFound) => boolean,
    take: (rows: readonly SnapshotRow[]) => Promise<void>,
  ): Promise<"done" | null | "gone">;
  /** Resolves when the mark is in the WAL, after everything that was visible before. */
  mark(mark: SnapshotMark): Promise<void>;
}
