import { formatLsn, type Lsn, parseLsn } from "@cascade/shared/lsn";
import { z } from "zod";

/** Its key in `<prefix>.signals`. */
export const SLOT_KEY = "slot";

/** What cdc knows of its slot and of main-db beyond its own life: what they are compared with at a start. */
export interface SlotRecord {
  readonly slot: string;
  /** null where main-db does not tell. */
  readonly systemId: string | null;
  readonly timeline: number;
  /** Nothing beyond was ever confirmed: a slot that is further was moved, or made, by somebody else. */
  readonly bound: Lsn;
  /** Nothing beyond was ever published: positions that begin there run on. */
  readonly limit: Lsn;
  /** main-db sends cdc nothing that the standbys of its failover do not have. */
  readonly synchronized: boolean;
  /** The slot was lost, and not every table is known to be copied anew yet. */
  readonly repair: { readonly reason: string; readonly since: string } | null;
}

const lsnText = z.string().transform((text) => parseLsn(text));

const recordShape = z.object({
  type: z.literal("slot"),
  slot: z.string(),
  system_id: z.string().nullable(),
  timeline: z.number(),
  bound: lsnText,
  limit: lsnText,
  synchronized: z.boolean(),
  repair: z.object({ reason: z.string(), since: z.string() }).nullable(),
});

export const encodeSlotRecord = ({ slot, systemId, timeline, bound, limit, synchronized, repair }: SlotRecord): string =>
  JSON.stringify({
    type: "slot",
    slot,
    system_id: systemId,
    timeline,
    bound: formatLsn(bound),
    limit: formatLsn(limit),
    synchronized,
    repair,
  });

/** Throws an Error when it is none: whoever cannot read it cannot tell a lost slot from a good one. */
export function decodeSlotRecord(value: string): SlotRecord {
  const { type: _type, system_id: systemId, ...record } = recordShape.parse(JSON.parse(value));
  return { ...record, systemId };
}
