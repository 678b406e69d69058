/** What a query on main-db can see: `pg_current_snapshot()`, with full transaction ids. */
export interface Snapshot {
  /** Every transaction from here on is unseen. */
  readonly end: bigint;
  /** Those before `end` that were still under way. */
  readonly underWay: ReadonlySet<bigint>;
}

/** Reads PostgreSQL's text of a snapshot, `xmin:xmax:xip,...`. */
export function parseSnapshot(text: string): Snapshot {
  const [, end, underWay] = text.split(":");
  if (end === undefined || underWay === undefined) throw new SyntaxError("not a snapshot");
  return { end: BigInt(end), underWay: new Set(underWay === "" ? [] : underWay.split(",").map(BigInt)) };
}

/**
 * Whether the snapshot sees what a committed transaction wrote. The WAL names it by the lower 32 bits of its id alone; ids in use
 * are never 2^31 apart, so the nearest id with those bits is the one.
 */
export function sees({ end, underWay }: Snapshot, txId: number): boolean {
  const full = end + BigInt((txId - Number(end & 0xffff_ffffn)) | 0);
  return full < end && !underWay.has(full);
}
