import { CascadeError } from "@cascade/shared/errors";
import { formatLsn, type Lsn } from "@cascade/shared/lsn";
import type { MainDbIdentity } from "./postgres/main-db-identity.ts";
import type { SlotState } from "./postgres/slot.ts";
import type { SlotRecord } from "./slot-record.ts";

/** So much WAL is written to get past what was published; a server that is further back is another one. */
export const MAX_PUSHED_BYTES = 64n * 1024n * 1024n;

export interface SlotSituation {
  readonly slotName: string;
  /** null: there is no such slot. */
  readonly slot: Pick<SlotState, "walStatus" | "confirmedLsn"> | null;
  readonly record: SlotRecord | null;
  readonly mainDb: MainDbIdentity;
  /** Where main-db left the record's timeline; null: unknown. Only asked for where it is on another one. */
  readonly leftTimelineAt: Lsn | null;
  /** Something was published under this prefix. */
  readonly hasPublished: boolean;
}

/** Changes are missing between what was published and what the slot will bring. */
export interface SlotLoss {
  readonly code: "SLOT_LOST" | "SLOT_MOVED" | "MAIN_DB_REPLACED" | "MAIN_DB_SET_BACK";
  readonly what: string;
  /** Positions can run on from what was published: copies of all tables mend it. */
  readonly repairable: boolean;
}

/** Whether the slot goes on where it was left; null when it does. Pure. */
export function lossOf(situation: SlotSituation): SlotLoss | null {
  const { slotName, slot, record, mainDb, hasPublished } = situation;
  const repairable = record === null || record.limit <= mainDb.walEnd + MAX_PUSHED_BYTES;
  const lost = (code: SlotLoss["code"], what: string): SlotLoss => ({ code, what, repairable });
  if (record?.repair) return lost("SLOT_LOST", `${record.repair.reason} (found ${record.repair.since})`);
  const other = record === null ? null : otherHistory(situation, record);
  if (other !== null) return lost(...other);
  const named = `replication slot "${slotName}"`;
  if (slot === null) return hasPublished ? lost("SLOT_LOST", `${named} is gone`) : null;
  if (slot.walStatus === "lost")
    return lost(
      "SLOT_LOST",
      `${named} has lost WAL that was not read (max_slot_wal_keep_size, or idle_replication_slot_timeout)`,
    );
  if (record !== null && slot.confirmedLsn > record.bound)
    return lost(
      "SLOT_MOVED",
      `${named} stands at ${formatLsn(slot.confirmedLsn)}, and cdc has confirmed nothing beyond ${formatLsn(record.bound)}: somebody else has read or advanced it, or has dropped it and made it anew`,
    );
  return null;
}

function otherHistory(
  { mainDb, leftTimelineAt }: SlotSituation,
  { systemId, timeline, bound, limit, synchronized }: SlotRecord,
): [SlotLoss["code"], string] | null {
  if (systemId !== null && mainDb.systemId !== null && systemId !== mainDb.systemId)
    return ["MAIN_DB_REPLACED", `main-db is another server (system identifier ${mainDb.systemId}, it was ${systemId})`];
  if (mainDb.walEnd < bound)
    return [
      "MAIN_DB_SET_BACK",
      `main-db's WAL ends at ${formatLsn(mainDb.walEnd)}, before ${formatLsn(bound)}, which cdc has published: a standby that was promoted without the newest changes, or a restored backup`,
    ];
  if (mainDb.timeline === timeline) return null;
  if (leftTimelineAt !== null && (leftTimelineAt >= limit || (synchronized && leftTimelineAt >= bound))) return null;
  const where = leftTimelineAt === null ? "at a place that cannot be found out" : `at ${formatLsn(leftTimelineAt)}`;
  return [
    "MAIN_DB_SET_BACK",
    `main-db has left timeline ${timeline} for ${mainDb.timeline} ${where}, and cdc may have published up to ${formatLsn(limit)}: a standby that was promoted without the newest changes, or a restored backup`,
  ];
}

/** What stops cdc. */
export function slotLost({ code, what, repairable }: SlotLoss): CascadeError {
  return new CascadeError({
    code,
    verdict: "refuse",
    message: `${what}; changes are missing between what was published and what would come now`,
    advice: repairable ? REPAIR : NEW_PREFIX,
  });
}

const REPAIR =
  "set CDC_ON_SLOT_LOST=resnapshot: cdc makes a new slot, and every replica empties its tables and gets them anew. Or by hand: empty the replicas and start with another KAFKA_TOPIC_PREFIX. Raise max_slot_wal_keep_size where main-db has removed WAL, so that it does not happen again";
const NEW_PREFIX =
  "positions would run backwards here, and routers would take new changes for old ones, so CDC_ON_SLOT_LOST=resnapshot does not help: empty the replicas and start with another KAFKA_TOPIC_PREFIX; or let CDC_DATABASE_URL lead to the right server";
