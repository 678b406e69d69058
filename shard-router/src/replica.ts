import type { CascadeError } from "@cascade/shared/errors";
import type { Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaTable, Statement } from "./dialect.ts";
import type { Partition } from "./event-consumer.ts";
import type { HeldKey, HoldChange } from "./held-keys.ts";
import type { PartStore } from "./replicas/part-store.ts";
import type { SchemaStep } from "./schema-change.ts";

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

/** What a replica remembers of a source table (contract.md §4: cascade_tables). */
export interface RememberedTable {
  /** Of main-db's table: the same over renames, another one when it was made anew. */
  readonly oid: number;
  /** What the replica's table is like now. */
  readonly schema: TableSchema;
  /** From there on main-db's table was like this: a row before it may be of an older schema, one after it of a newer. */
  readonly at: Position;
  /** The source name that the replica's table is called for: the newest known, or one of ours while another table has that. */
  readonly named: TableName;
  /** Grows whenever the table or its name is changed: who has read an older one knows nothing of the table. */
  readonly revision: number;
  /** The copy that the replica has asked for and waits for; null for none. */
  readonly awaiting: string | null;
}

/** A change of the replica's tables. What it changes must be as it was `remembered`, or the change is stale (FencedError). */
export type TableChange =
  /** Makes the table (unless one is there that fits), and remembers it. `mayCreate`: nothing was ever applied to it. */
  | {
      readonly kind: "create";
      readonly schema: TableSchema;
      readonly at: Position;
      readonly named: TableName;
      readonly mayCreate: boolean;
      /** The copy that is to bring its rows. */
      readonly awaiting?: string | null;
    }
  /**
   * Gives the table the name, takes the steps that are not taken yet, checks that it takes the rows of `schema`, and remembers that.
   * `rewritten`: main-db has written its rows anew, unseen, and cdc copies them again: values that cannot be converted may be left out.
   * `empties`: its rows would not be found again.
   */
  | {
      readonly kind: "alter";
      readonly from: RememberedTable;
      readonly schema: TableSchema;
      readonly at: Position;
      readonly named: TableName;
      readonly steps: readonly SchemaStep[];
      readonly rewritten: boolean;
      readonly empties: boolean;
    }
  /** The name alone: another table needs the one that it has, or its own has come free. */
  | { readonly kind: "move"; readonly from: RememberedTable; readonly named: TableName }
  /** Its rows will come by the copy that was asked for by this name; null: that has begun. */
  | { readonly kind: "await"; readonly from: RememberedTable; readonly awaiting: string | null }
  /** Drops the table, with its rows, if it is there, and forgets it. */
  | { readonly kind: "drop"; readonly from: RememberedTable }
  /** Forgets a table that somebody has dropped; rejects with `otherwise` while it is there. */
  | { readonly kind: "release"; readonly from: RememberedTable; readonly otherwise: CascadeError };

/** A table as it must be remembered for work on it. */
export interface FencedTable extends Pick<RememberedTable, "oid" | "revision"> {
  /** The revision grows with the work: no other that was made for the same one is done. */
  readonly renews?: true;
}

/** The same change twice: as few statements as possible, and (rendered only when needed) every mutation by itself in order. */
export interface Work {
  readonly statements: readonly Statement[];
  /** Used in a fresh transaction when a set-based statement hits a constraint, e.g. a unique value moving between rows. */
  readonly inOrder: () => readonly Statement[];
  /** The statements were made for these tables as they were remembered: rejects with FencedError when one was changed since. */
  readonly tables?: readonly FencedTable[];
  /** What becomes of held keys with it: rejects with FencedError when one is not as it was read. */
  readonly holds?: readonly HoldChange[];
}

/** A database kept equal. Every rejection is a CascadeError whose verdict tells what to do. */
export interface Replica extends AsyncDisposable {
  readonly dialect: Dialect;
  /** Made once and kept in the replica: tells it from every other one, whatever URL leads to it. */
  readonly id: string;
  /** For a command that gives up a part of what it holds. */
  readonly parts: PartStore;
  /** What keeps this replica from being treated as it should be, with the cure: for the log and /status. Not a reason to stop. */
  findings(): readonly string[];
  /** Resolves when the replica answers: how a router with nothing to apply learns that it is away. */
  check(): Promise<void>;
  /** Which part of main-db it holds: `wanted` where it is new, or where that was `instead` of it until now. */
  claim(wanted: string, instead?: string): Promise<string>;
  /** Committed progress of the partition, null when the replica has never heard of it. */
  progress(partition: Partition): Promise<Progress | null>;
  /** The same of all partitions of a topic, by their numbers: those that it has heard of. */
  progressOf(topic: string): Promise<ReadonlyMap<number, Progress>>;
  /** The keys whose changes are held back, of the partition or of all. */
  held(partition?: Partition): Promise<readonly HeldKey[]>;
  /** Every source table it has a table of; of these alone, where they are given. */
  remembered(oids?: readonly number[]): Promise<readonly RememberedTable[]>;
  /**
   * The replica's table for rows of this source schema: created when missing and `mayCreate`, else checked to fit column by column. A
   * table that has been applied to must not be created again: its rows would be missing (REPLICA_TABLE_LOST, stop-table). `named`: the
   * source name that it is called for, the schema's own unless said otherwise. `revision`: of the remembered table; it is created only while
   * that is what the replica remembers, for a router that was frozen would make a table that another has dropped (REPLICA_LOCKED).
   * Rejects with REPLICA_TABLE_MISMATCH (stop-table) naming each column that does not fit, with the cure.
   */
  prepare(schema: TableSchema, mayCreate?: boolean, named?: TableName, revision?: number): Promise<ReplicaTable>;
  /**
   * The changes in order and the step from `from` to `to`, in one transaction where the engine has one for DDL; else so that they go on
   * when they are asked for again after a crash anywhere. Rejects with FencedError if `from` or what is remembered of a table is stale.
   */
  change(changes: readonly TableChange[], advance: Advance): Promise<void>;
  /** One transaction: the work and the step from `from` to `to`, or nothing. Rejects with FencedError if `from` is stale. */
  apply(work: Work, advance: Advance): Promise<void>;
  /** One transaction without a step, for events of `partition` that were passed: what it says of held keys fences it. */
  settle(work: Work & Required<Pick<Work, "holds">>, partition: Partition): Promise<void>;
}
