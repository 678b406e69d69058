import type { ChangeEvent } from "@cascade/shared/change-event";
import { formatLsn, type Lsn } from "@cascade/shared/lsn";
import type { Telemetry } from "@cascade/shared/telemetry";
import type { ChangeBatch } from "./batching.ts";
import type { SlotState } from "./postgres/slot.ts";

/** After this long without a change the source counts as idle, and its lag as none. */
const IDLE_MS = 5_000;
const WAL_STATES = ["reserved", "extended", "unreserved", "lost"] as const;

/** What cdc has done and how far it is: for /status and /metrics. */
export class CaptureStatus {
  #capturedTotal = 0;
  #eventsTotal = 0;
  #publishedBytesTotal = 0;
  #confirmedLsn: Lsn | null = null;
  #slot: SlotState | null = null;
  readonly #slotName: string;
  /** Commit time of the oldest change that Kafka has not acknowledged, milliseconds since 1970. */
  #pendingSinceMs: number | null = null;
  #lastLagMs = 0;
  #lastEventAtMs = 0;

  constructor(slotName: string, telemetry: Telemetry) {
    this.#slotName = slotName;
    telemetry.observe("cascade_cdc_lag_seconds", () => [{ value: this.lagSeconds() }]);
    telemetry.observe("cascade_cdc_confirmed_lsn", () =>
      this.#confirmedLsn === null ? [] : [{ value: Number(this.#confirmedLsn) }],
    );
    telemetry.observe("cascade_cdc_slot_retained_bytes", () =>
      this.#slot === null ? [] : [{ value: this.#slot.retainedBytes }],
    );
    telemetry.observe("cascade_cdc_slot_safe_bytes", () =>
      this.#slot === null || this.#slot.safeBytes === null ? [] : [{ value: this.#slot.safeBytes }],
    );
    telemetry.observe("cascade_cdc_slot_status", () =>
      this.#slot === null
        ? []
        : WAL_STATES.map((status) => ({ value: Number(this.#slot?.walStatus === status), labels: { status } })),
    );
  }

  /** A batch is on its way to Kafka. */
  publishing(events: readonly ChangeEvent[]): void {
    this.#capturedTotal += events.length;
    this.#pendingSinceMs ??= events[0]?.transaction.committedAtMs ?? null;
  }

  published(events: readonly ChangeEvent[], bytes: number): void {
    this.#eventsTotal += events.length;
    this.#publishedBytesTotal += bytes;
    const now = Date.now();
    this.#lastLagMs = Math.max(0, now - (this.#pendingSinceMs ?? now));
    this.#lastEventAtMs = now;
    this.#pendingSinceMs = null;
  }

  confirmed({ confirmable }: ChangeBatch): void {
    if (confirmable !== null) this.#confirmedLsn = confirmable;
  }

  slot(state: SlotState | null): void {
    this.#slot = state;
  }

  lagSeconds(): number {
    const now = Date.now();
    if (this.#pendingSinceMs !== null) return Math.max(0, now - this.#pendingSinceMs) / 1000;
    return now - this.#lastEventAtMs < IDLE_MS ? this.#lastLagMs / 1000 : 0;
  }

  toJSON(): object {
    return {
      slot: {
        name: this.#slotName,
        status: this.#slot?.walStatus ?? null,
        retainedBytes: this.#slot?.retainedBytes ?? null,
        safeBytes: this.#slot?.safeBytes ?? null,
        confirmedLsn: this.#confirmedLsn === null ? null : formatLsn(this.#confirmedLsn),
      },
      lagSeconds: this.lagSeconds(),
      capturedTotal: this.#capturedTotal,
      eventsTotal: this.#eventsTotal,
      publishedBytesTotal: this.#publishedBytesTotal,
    };
  }
}
