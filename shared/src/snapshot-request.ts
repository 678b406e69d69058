import { z } from "zod";

/** A request on `<prefix>.signals` (contract.md §3): anybody may write one, under a key of its own. */
export const snapshotRequestShape = z.strictObject({
  type: z.literal("snapshot"),
  tables: z.array(z.string()).min(1),
  /** The table with this one alone, whatever it is called by now: a router knows names only as they were. */
  oid: z.number().int().positive().optional(),
  replica: z.string().min(1).optional(),
  from: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  to: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  where: z.string().min(1).optional(),
});

/** As it is written. */
export type SnapshotRequestMessage = z.input<typeof snapshotRequestShape>;

export const encodeSnapshotRequest = (request: SnapshotRequestMessage): string => JSON.stringify(request);
