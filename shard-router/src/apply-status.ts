import type { CascadeError } from "@cascade/shared/errors";
import { type ErrorReport, reportOf } from "@cascade/shared/service-health";
import type { Reading, Telemetry } from "@cascade/shared/telemetry";
import { formatTableName, type TableName, tableOfTopic } from "@cascade/shared/topic";
import { type EventBatch, type OwnPartition, type Partition, partitionKey } from "./event-consumer.ts";
import { eventOf } from "./event-of.ts";
import { LagWindow } from "./lag-window.ts";
import { offsetOf } from "./poison.ts";
import type { RememberedTable } from "./replica.ts";
import type { Step } from "./turn.ts";

/**
 * `live`: applied as it comes. `held`: stopped by an error, tried again until its cause is mended. `keys-held`: applied but for the changes
 * of some keys, which wait to be replayed or discarded.
 */
const TABLE_STATES = ["live", "held", "keys-held"] as const;
type TableState = (typeof TABLE_STATES)[number];
/** After this long without an event the replica counts as caught up, and its lag as none. */
const IDLE_MS = 5_000;

interface PartitionStatus {
  readonly partition: Partition;
  nextOffset: bigint | null;
  lagEvents: bigint;
  sourceCommittedAtMs: number | null;
  /** The oldest event that is known and not applied: its commit time, milliseconds since 1970, and its offset. */
  waiting: { readonly sinceMs: number; readonly offset: bigint | null } | null;
  held: { readonly report: HoldReport; readonly failures: number } | null;
}

/** The error, and the message that it is met at where it is one. */
interface HoldReport extends ErrorReport {
  readonly topic: string;
  readonly partition: number;
  readonly offset: string | null;
}

export type RememberedByName = ReadonlyMap<string, Pick<RememberedTable, "schema" | "awaiting">>;

/** How many keys are held back. */
export type HeldKeysOf = (partition: Partition) => number;

/** How far the replica is and which tables are held: for /status, readiness and /metrics. */
export class ApplyStatus {
  readonly #prefix: string;
  readonly #lag = new LagWindow();
  readonly #partitions = new Map<string, PartitionStatus>();
  #assigned: (() => readonly OwnPartition[]) | null = null;
  #remembered: () => RememberedByName = () => new Map();
  #heldKeys: HeldKeysOf = () => 0;
  /** Of each table, in this process. */
  readonly #schemaChanges = new Map<string, number>();
  #eventsTotal = 0;
  #lastLagMs = 0;
  #lastEventAtMs = 0;

  constructor(prefix: string, replica: string, telemetry: Telemetry) {
    this.#prefix = prefix;
    telemetry.observe("cascade_router_lag_seconds", () => [{ value: this.#lagSeconds(), labels: { replica } }]);
    telemetry.observe("cascade_router_lag_events", () =>
      this.#mine().map(({ partition, lagEvents }) => ({
        value: Number(lagEvents),
        labels: { replica, ...partition },
      })),
    );
    telemetry.observe("cascade_router_table_state", () => this.#tableStates(replica));
    telemetry.observe("cascade_router_held_keys", () =>
      this.#tables().map(([table, of]) => ({ value: this.#keysHeld(of), labels: { replica, table } })),
    );
  }

  /**
   * Which partitions this router holds, asked whenever the status is: what is another router's now is forgotten. null between two lives:
   * nothing is known to be another's, and what waits goes on waiting. `remembered`: how the replica's tables are.
   */
  follow(
    assigned: (() => readonly OwnPartition[]) | null,
    remembered: (() => RememberedByName) | null = null,
    heldKeys: HeldKeysOf | null = null,
  ): void {
    this.#assigned = assigned;
    this.#remembered = remembered ?? this.#remembered;
    this.#heldKeys = heldKeys ?? this.#heldKeys;
  }

  /** The replica's table was made, changed or dropped. */
  schemaChanged(name: TableName): void {
    const table = formatTableName(name);
    this.#schemaChanges.set(table, (this.#schemaChanges.get(table) ?? 0) + 1);
  }

  /** A batch is in hand. Its first event is read for its time alone: one per batch. */
  received(batch: EventBatch): void {
    const status = this.#of(batch.partition);
    status.lagEvents = batch.lagEvents + BigInt(batch.events.length);
    status.waiting ??= { sinceMs: committedAtMs(batch) ?? Date.now(), offset: batch.events[0]?.offset ?? null };
  }

  /** The partition is read from there on, as the replica says. What waited here before that another router has applied. */
  resumed(partition: Partition, offset: bigint | null): void {
    const status = this.#of(partition);
    if (offset === null) return;
    status.nextOffset = offset;
    const from = status.waiting?.offset ?? null;
    if (from !== null && offset > from) nothingWaits(status);
  }

  /** Resolves a hold; true when the table was held until now. */
  applied(batch: EventBatch, { advance, events, oldestAtMs }: Step): boolean {
    const status = this.#of(batch.partition);
    const wasHeld = status.held !== null;
    status.held = null;
    status.nextOffset = advance.to.nextOffset;
    status.lagEvents = batch.lagEvents;
    status.waiting = null;
    status.sourceCommittedAtMs = advance.to.sourceCommittedAtMs || null;
    // Of a batch without a row of ours, too: what comes after it is as late.
    if (oldestAtMs !== null) {
      const now = Date.now();
      this.#lastLagMs = Math.max(0, now - oldestAtMs);
      this.#lastEventAtMs = now;
      if (events.length > 0) this.#lag.add(this.#lastLagMs, events.length);
      this.#eventsTotal += events.length;
    }
    return wasHeld;
  }

  isHeld(partition: Partition): boolean {
    return this.#of(partition).held !== null;
  }

  /** Resolves a hold without an event: the partition has been read to its end. */
  mended(partition: Partition): void {
    nothingWaits(this.#of(partition));
  }

  /** How often in a row the partition has failed now, and whether that is news worth a line in the log. */
  held(partition: Partition, error: CascadeError): { readonly failures: number; readonly news: boolean } {
    const status = this.#of(partition);
    const failures = (status.held?.failures ?? 0) + 1;
    const news = status.held?.report.message !== error.message;
    const offset = offsetOf(error);
    status.held = { report: { ...reportOf(error), ...partition, offset: offset === null ? null : String(offset) }, failures };
    return { failures, news };
  }

  reasons(): readonly string[] {
    const held = this.#held().map(
      ({ partition, held }) => `${this.#table(partition)} is held: ${held?.report.code}: ${held?.report.message}`,
    );
    const keys = this.#tables().flatMap(([table, of]) => {
      const count = this.#keysHeld(of);
      return count === 0 ? [] : [`${table}: the changes of ${count} ${count === 1 ? "key is" : "keys are"} held back`];
    });
    return [...held, ...keys];
  }

  toJSON(): object {
    const partitions = this.#mine();
    const remembered = this.#remembered();
    return {
      eventsTotal: this.#eventsTotal,
      lagMs: this.#lag.summary(),
      lagEvents: Number(partitions.reduce((sum, { lagEvents }) => sum + lagEvents, 0n)),
      tables: this.#tables().map(([table, of]) => {
        const error = of.find(({ held }) => held !== null)?.held?.report ?? null;
        const { schema: known, awaiting = null } = remembered.get(table) ?? {};
        const schema = { id: known?.id ?? null, changes: this.#schemaChanges.get(table) ?? 0 };
        // Until the copy is here everything of the table is passed over.
        return { table, state: this.#stateOf(of), awaitsCopy: awaiting !== null, schema, error, heldKeys: this.#keysHeld(of) };
      }),
      partitions: partitions.map(({ partition, nextOffset, lagEvents, sourceCommittedAtMs }) => ({
        ...partition,
        nextOffset: nextOffset === null ? null : String(nextOffset),
        lagEvents: Number(lagEvents),
        sourceCommittedAt: sourceCommittedAtMs === null ? null : new Date(sourceCommittedAtMs).toISOString(),
      })),
    };
  }

  #held(): readonly PartitionStatus[] {
    return this.#mine().filter(({ held }) => held !== null);
  }

  #mine(): readonly PartitionStatus[] {
    if (this.#assigned === null) return [...this.#partitions.values()];
    const assigned = this.#assigned();
    const keys = new Set(assigned.map(partitionKey));
    for (const key of this.#partitions.keys()) if (!keys.has(key)) this.#partitions.delete(key);
    return assigned.map(({ topic, partition, highWatermark }) => {
      const status = this.#of({ topic, partition });
      // While a batch is being applied, or the partition is held, more is fetched.
      const { nextOffset } = status;
      if (highWatermark != null && nextOffset !== null)
        status.lagEvents = highWatermark > nextOffset ? highWatermark - nextOffset : 0n;
      return status;
    });
  }

  #lagSeconds(): number {
    const waiting = this.#mine().flatMap(({ waiting }) => (waiting === null ? [] : [Date.now() - waiting.sinceMs]));
    if (waiting.length > 0) return Math.max(0, ...waiting) / 1000;
    return Date.now() - this.#lastEventAtMs < IDLE_MS ? this.#lastLagMs / 1000 : 0;
  }

  #tableStates(replica: string): readonly Reading[] {
    return this.#tables().flatMap(([table, of]) =>
      TABLE_STATES.map((state) => ({ value: Number(state === this.#stateOf(of)), labels: { replica, table, state } })),
    );
  }

  #tables(): readonly (readonly [table: string, of: readonly PartitionStatus[]])[] {
    return [...Map.groupBy(this.#mine(), ({ partition }) => this.#table(partition))];
  }

  #stateOf(of: readonly PartitionStatus[]): TableState {
    if (of.some(({ held }) => held !== null)) return "held";
    return this.#keysHeld(of) > 0 ? "keys-held" : "live";
  }

  #keysHeld(of: readonly PartitionStatus[]): number {
    return of.reduce((sum, { partition }) => sum + this.#heldKeys(partition), 0);
  }

  #table({ topic }: Partition): string {
    return formatTableName(tableOfTopic(this.#prefix, topic) as TableName);
  }

  #of(partition: Partition): PartitionStatus {
    const key = partitionKey(partition);
    let status = this.#partitions.get(key);
    if (status === undefined) {
      status = { partition, nextOffset: null, lagEvents: 0n, sourceCommittedAtMs: null, ...NOTHING_WAITS };
      this.#partitions.set(key, status);
    }
    return status;
  }
}

const NOTHING_WAITS = { waiting: null, held: null } as const;

function nothingWaits(status: PartitionStatus): void {
  Object.assign(status, NOTHING_WAITS);
  status.lagEvents = 0n;
}

/** null when it is no event: why not, is said where it is turned. */
function committedAtMs({ events }: EventBatch): number | null {
  const [first] = events;
  try {
    return first === undefined ? null : (eventOf(first)?.committedAtMs ?? null);
  } catch {
    return null;
  }
}
