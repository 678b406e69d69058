/** Every metric of Cascade (contract.md §6): names are Prometheus names, and a typo does not compile. */

interface Instrument {
  readonly kind: "counter" | "histogram" | "gauge";
  readonly help: string;
  readonly labels?: readonly string[];
}

export const INSTRUMENTS = {
  cascade_build_info: { kind: "gauge", labels: ["version"], help: "1, with the version as a label" },
  cascade_ready: { kind: "gauge", help: "1 while /health/ready answers 200, 0 while it answers 503" },
  cascade_cdc_events_total: { kind: "counter", labels: ["table", "op"], help: "Row changes acknowledged by Kafka" },
  cascade_cdc_transactions_total: {
    kind: "counter",
    help: "Transactions of main-db whose every change is acknowledged by Kafka",
  },
  cascade_cdc_published_bytes_total: { kind: "counter", help: "Bytes of messages acknowledged by Kafka, before compression" },
  cascade_cdc_publish_duration_seconds: { kind: "histogram", help: "Time to publish a batch until every in-sync broker has it" },
  cascade_cdc_lag_seconds: {
    kind: "gauge",
    help: "Source commit to acknowledged by Kafka, of the oldest change under way or the last one; 0 when idle and caught up",
  },
  cascade_cdc_slot_retained_bytes: { kind: "gauge", help: "WAL that main-db keeps for the slot" },
  cascade_cdc_slot_safe_bytes: {
    kind: "gauge",
    help: "WAL that may still be written before the slot is lost (max_slot_wal_keep_size)",
  },
  cascade_cdc_slot_status: { kind: "gauge", labels: ["status"], help: "1 for the slot's wal_status, 0 for the others" },
  cascade_cdc_slot_burn_bytes_per_second: {
    kind: "gauge",
    help: "WAL per second by which the slot falls behind, over the last minute; 0 when it keeps up",
  },
  cascade_cdc_slot_exhaustion_seconds: {
    kind: "gauge",
    help: "Until the slot is lost at that rate (max_slot_wal_keep_size); absent without a limit or when it keeps up",
  },
  cascade_cdc_slot_active: { kind: "gauge", help: "1 while somebody reads the slot" },
  cascade_cdc_other_slot_retained_bytes: {
    kind: "gauge",
    labels: ["slot"],
    help: "WAL that main-db keeps for another logical slot, which nobody reads",
  },
  cascade_cdc_confirmed_lsn: { kind: "gauge", help: "LSN up to which everything is durable in Kafka, as a number" },
  cascade_cdc_snapshot_rows_total: {
    kind: "counter",
    labels: ["table"],
    help: "Rows of tables being copied, acknowledged by Kafka",
  },
  cascade_cdc_snapshot_remaining_rows: {
    kind: "gauge",
    labels: ["table"],
    help: "Rows of a table being copied that are still to come, by main-db's estimate",
  },
  cascade_router_events_total: {
    kind: "counter",
    labels: ["replica", "table", "op"],
    help: "Row changes committed on the replica",
  },
  cascade_router_statements_total: { kind: "counter", labels: ["replica"], help: "SQL statements that carried them" },
  cascade_router_apply_duration_seconds: {
    kind: "histogram",
    labels: ["replica"],
    help: "Time to apply a batch on the replica, commit included",
  },
  cascade_router_lag_seconds: {
    kind: "gauge",
    labels: ["replica"],
    help: "Source commit to committed on the replica, of the oldest change of the last batch; 0 when idle and caught up",
  },
  cascade_router_lag_events: {
    kind: "gauge",
    labels: ["replica", "topic", "partition"],
    help: "Messages of the partition that the replica has not applied yet",
  },
  cascade_router_retries_total: {
    kind: "counter",
    labels: ["replica", "code"],
    help: "Tries that failed and are repeated, by error code",
  },
  cascade_router_dead_letters_total: {
    kind: "counter",
    labels: ["replica", "table"],
    help: "Row changes that the replica was led past, each in the dead letters' topic",
  },
  cascade_router_held_keys: {
    kind: "gauge",
    labels: ["replica", "table"],
    help: "Keys of the table whose changes are held back",
  },
  cascade_router_table_state: {
    kind: "gauge",
    labels: ["replica", "table", "state"],
    help: "1 for the table's state, 0 for the others",
  },
  process_resident_memory_bytes: { kind: "gauge", help: "Resident memory size in bytes" },
  process_cpu_seconds_total: { kind: "counter", help: "Total user and system CPU time spent in seconds" },
  process_start_time_seconds: { kind: "gauge", help: "Start time of the process since unix epoch in seconds" },
} as const satisfies Readonly<Record<string, Instrument>>;

type Instruments = typeof INSTRUMENTS;
type OfKind<Kind> = { [Name in keyof Instruments]: Instruments[Name]["kind"] extends Kind ? Name : never }[keyof Instruments];

export type CounterName = OfKind<"counter">;
export type HistogramName = OfKind<"histogram">;
export type GaugeName = OfKind<"gauge">;

/** Seconds: from a local commit to a stalled server. */
export const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export type SpanName = "cascade.capture" | "cascade.publish" | "cascade.apply" | "cascade.commit";
