import type { ServiceContext } from "@cascade/shared/service";
import type { CaptureStatus } from "./capture-status.ts";
import type { CdcConfig } from "./config.ts";
import type { SlotLook } from "./postgres/slot-look.ts";
import { watchSlot } from "./postgres/slot-watch.ts";

export interface SlotReporting {
  /** Goes on until `signal` aborts, over all lives: begun by the first one. */
  begin(signal: AbortSignal): void;
}

/** Looks at the slot, and says what is wrong with it in the log; /status, /metrics and readiness ask `status`. */
export function slotReporting(config: CdcConfig, { logger, health }: ServiceContext, status: CaptureStatus): SlotReporting {
  let begun = false;
  const onLook = (look: SlotLook | null) => {
    const { state, lastError } = health;
    const streams = state === "running" && config.CDC_MODE === "stream";
    const trouble = state === "retrying" && lastError !== null ? `${lastError.code}: ${lastError.message}` : null;
    const said = status.slot(look, { streams, trouble });
    // A standby leaves it to the one that works.
    if (lastError?.code === "SLOT_ACTIVE" && state !== "running") return;
    for (const message of said) logger.warn(message);
  };
  return {
    begin: (signal) => {
      if (begun) return;
      begun = true;
      void watchSlot(config.CDC_DATABASE_URL, config.CDC_SLOT, onLook, signal);
    },
  };
}
