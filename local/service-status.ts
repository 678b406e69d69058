/** What the services say at `/status` (contract.md §5), as far as programs here read it. */
export interface LastError {
  readonly code: string;
  readonly message: string;
  readonly advice: string;
  readonly at: string;
}

export interface CdcStatus {
  readonly service: "cdc";
  readonly version: string;
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly state: string;
  readonly slot: {
    readonly name: string;
    readonly status: string | null;
    readonly retainedBytes: number | null;
    readonly behindBytes: number | null;
    readonly safeBytes: number | null;
    readonly burnBytesPerSecond: number | null;
    /** null without max_slot_wal_keep_size, or when it keeps up. */
    readonly secondsToExhaustion: number | null;
    readonly active: boolean | null;
    readonly failover: boolean | null;
    /** Logical slots of main-db that nobody reads. */
    readonly otherInactive: readonly { readonly name: string; readonly retainedBytes: number }[];
    readonly confirmedLsn: string | null;
  } | null;
  readonly lagSeconds: number;
  /** Read from the slot; without it, what is published is what is known to be captured. */
  readonly capturedTotal?: number;
  /** Acknowledged by Kafka. */
  readonly eventsTotal: number;
  readonly publishedBytesTotal: number;
  /** Of tables that are being copied, or are to be. */
  readonly snapshots: readonly { readonly table: string; readonly status: string; readonly rows: number }[];
  readonly lastError: LastError | null;
}

export interface RouterStatus {
  readonly service: "shard-router";
  readonly version: string;
  readonly replica: string;
  readonly dialect: string;
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly findings: readonly unknown[];
  readonly eventsTotal: number;
  /** From commit on main-db to committed on the replica, of recent events; null before the first. */
  readonly lagMs: { readonly p50: number | null; readonly p99: number | null; readonly max: number | null };
  readonly lagEvents: number;
  readonly tables: readonly TableStatus[];
  readonly partitions: readonly PartitionStatus[];
  readonly lastError: LastError | null;
}

export interface TableStatus {
  readonly table: string;
  readonly state: "live" | "held" | "keys-held";
  /** Everything of it is passed over until the copy that the router has asked for is here. */
  readonly awaitsCopy: boolean;
  readonly error:
    | (Omit<LastError, "at"> & { readonly topic: string; readonly partition: number; readonly offset: string | null })
    | null;
  /** How many keys have changes that are held back. */
  readonly heldKeys: number;
}

export interface PartitionStatus {
  readonly topic: string;
  readonly partition: number;
  readonly nextOffset: string;
  readonly lagEvents: number;
  readonly sourceCommittedAt: string | null;
}
