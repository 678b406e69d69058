import type { Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { Dialect, ReplicaTable, Statement } from "./dialect.ts";
import type { Partition } from "./event-consumer.ts";

/** What a replica remembers of a partition (contract.md §4: cascade_progress). */
export interface Progress extends Position {
  readonly nextOffset: bigint;
  readonly sourceCommittedAtMs: number;
}

/** The step a transaction makes: compare-and-set from the value last read (null: no row yet). */
export interface Advance {
  readonly partition: Partition;
  readonly from: Progress | null;
  readonly to: Progress;
}

/** The same change twice: as few statements as possible, and (rendered only when needed) every mutation by itself in order. */
export interface Work {
  readonly statements: readonly Statement[];
  /** Used in a fresh transaction when a set-based statement hits a constraint, e.g. a unique value moving between rows. */
  readonly inOrder: () => readonly Statement[];
}

/** A database kept equal. Every rejection is a CascadeError whose verdict tells what to do. */
export interface Replica extends AsyncDisposable {
  readonly dialect: Dialect;
  /** Made once and kept in the replica: tells it from every other one, whatever URL leads to it. */
  readonly id: string;
  /** What keeps this replica from being treated as it should be, with the cure: for the log and /status. Not a reason to stop. */
  findings(): readonly string[];
  /** Resolves when the replica answers: how a router with nothing to apply learns that it is away. */
  check(): Promise<void>;
  /** Committed progress of the partition, null when the replica has never heard of it. */
  progress(partition: Partition): Promise<Progress | null>;
  /**
   * The replica's table for this source schema: created when missing and `mayCreate`, else checked to fit column by column. A table
   * that has been applied to must not be created again: its rows would be missing (REPLICA_TABLE_LOST, stop-table).
   * Rejects with REPLICA_TABLE_MISMATCH (stop-table) naming each column that does not fit, with the cure.
   */
  prepare(schema: TableSchema, mayCreate?: boolean): Promise<ReplicaTable>;
  /** One transaction: the work and the step from `from` to `to`, or nothing. Rejects with FencedError if `from` is stale. */
  apply(work: Work, advance: Advance): Promise<void>;
}
