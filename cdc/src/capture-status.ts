import type { ChangeEvent } from "@cascade/shared/change-event";
import { formatLsn, type Lsn } from "@cascade/shared/lsn";
import type { Telemetry } from "@cascade/shared/telemetry";
import type { ChangeBatch } from "./batching.ts";
import type { SlotLook } from "./postgres/slot-look.ts";
import { type Pipeline, SlotHealth } from "./slot-health.ts";

/** After this long without a change the source counts as idle, and its lag as none. */
const IDLE_MS = 5_000;
const WAL_STATES = ["reserved", "extended", "unreserved", "lost"] as const;

/** What cdc has done and how far it is: for /status and /metrics. */
export class CaptureStatus {
  #capturedTotal = 0;
  #eventsTotal = 0;
  #publishedBytesTotal = 0;
  #confirmedLsn: Lsn | null = null;
  readonly #health: SlotHealth;
  readonly #slotName: string;
  /** Commit time of the oldest change that Kafka has not acknowledged, milliseconds since 1970. */
  #pendingSinceMs: number | null = null;
  #lastLagMs = 0;
  #lastEventAtMs = 0;

  constructor(slotName: string, telemetry: Telemetry) {
    this.#slotName = slotName;
    this.#health = new SlotHealth(slotName);
    telemetry.observe("cascade_cdc_lag_seconds", () => [{ value: this.lagSeconds() }]);
    telemetry.observe("cascade_cdc_confirmed_lsn", () =>
      this.#confirmedLsn === null ? [] : [{ value: Number(this.#confirmedLsn) }],
    );
    this.#observeSlot(telemetry);
  }

  #observeSlot(telemetry: Telemetry): void {
    const one = (value: number | null | undefined) => (value === null || value === undefined ? [] : [{ value }]);
    const slot = () => this.#health.look?.slot;
    telemetry.observe("cascade_cdc_slot_retained_bytes", () => one(slot()?.retainedBytes));
    telemetry.observe("cascade_cdc_slot_safe_bytes", () => one(slot()?.safeBytes));
    telemetry.observe("cascade_cdc_slot_burn_bytes_per_second", () => one(this.#health.burnBytesPerSecond));
    telemetry.observe("cascade_cdc_slot_exhaustion_seconds", () => one(this.#health.secondsToExhaustion));
    telemetry.observe("cascade_cdc_slot_active", () => one(this.#isActive() === null ? null : Number(this.#isActive())));
    telemetry.observe("cascade_cdc_slot_status", () =>
      WAL_STATES.flatMap((status) =>
        one(slot() && Number(slot()?.walStatus === status)).map((one) => ({ ...one, labels: { status } })),
      ),
    );
    telemetry.observe("cascade_cdc_other_slot_retained_bytes", () =>
      (this.#health.look?.others ?? []).map(({ name, retainedBytes }) => ({ value: retainedBytes, labels: { slot: name } })),
    );
  }

  /** null when the slot cannot be seen. */
  #isActive(): boolean | null {
    const slot = this.#health.look?.slot;
    return slot === undefined ? null : slot.activePid !== null;
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

  /** Another cdc works on the slot now: what was under way here comes by it. */
  standsBy(): void {
    this.#pendingSinceMs = null;
  }

  confirmed({ confirmable }: ChangeBatch): void {
    if (confirmable !== null) this.#confirmedLsn = confirmable;
  }

  /** Returns what is to be said of the slot. */
  slot(look: SlotLook | null, pipeline: Omit<Pipeline, "pendingSeconds">): readonly string[] {
    const now = Date.now();
    const pendingSeconds = this.#pendingSinceMs === null ? 0 : Math.max(0, now - this.#pendingSinceMs) / 1000;
    return this.#health.take(look, { ...pipeline, pendingSeconds }, performance.now());
  }

  /** Why changes are in danger. */
  reasons(): readonly string[] {
    return this.#health.reasons();
  }

  lagSeconds(): number {
    const now = Date.now();
    if (this.#pendingSinceMs !== null) return Math.max(0, now - this.#pendingSinceMs) / 1000;
    return now - this.#lastEventAtMs < IDLE_MS ? this.#lastLagMs / 1000 : 0;
  }

  toJSON(): object {
    const slot = this.#health.look?.slot;
    return {
      slot: {
        name: this.#slotName,
        status: slot?.walStatus ?? null,
        active: this.#isActive(),
        retainedBytes: slot?.retainedBytes ?? null,
        behindBytes: this.#health.look?.behindBytes ?? null,
        safeBytes: slot?.safeBytes ?? null,
        burnBytesPerSecond: this.#health.burnBytesPerSecond,
        secondsToExhaustion: this.#health.secondsToExhaustion,
        failover: slot?.failover ?? null,
        confirmedLsn: this.#confirmedLsn === null ? null : formatLsn(this.#confirmedLsn),
        otherInactive: this.#health.look?.others ?? [],
      },
      lagSeconds: this.lagSeconds(),
      capturedTotal: this.#capturedTotal,
      eventsTotal: this.#eventsTotal,
      publishedBytesTotal: this.#publishedBytesTotal,
    };
  }
}
