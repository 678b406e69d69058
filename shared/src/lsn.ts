/**
 * A place in the WAL of main-db, in bytes. A bigint because it is an unsigned 64-bit number: past 2^53 (reachable with
 * `pg_resetwal`) a JavaScript number would silently round it, and a rounded LSN is a lost or doubled transaction.
 */
export type Lsn = bigint;

const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Reads PostgreSQL's text form, e.g. `0/15B9E10`. Throws SyntaxError on anything else. */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (!match) throw new SyntaxError(`not an LSN: ${JSON.stringify(text.slice(0, 40))}`);
  const high = Number.parseInt(match[1] as string, 16);
  const low = Number.parseInt(match[2] as string, 16);
  return lsnOf(high, low);
}

/** Of its two halves, 32 bits each. */
export const lsnOf = (high: number, low: number): Lsn =>
  // Below 2^21 in the high half the sum fits a double exactly, which is far cheaper than shifting bigints for every row.
  high < 0x200000 ? BigInt(high * 0x1_0000_0000 + low) : (BigInt(high) << 32n) | BigInt(low);

/** PostgreSQL's text form, as its functions (`pg_replication_slot_advance`, ...) take it. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;
}

export const laterLsn = (a: Lsn, b: Lsn): Lsn => (a > b ? a : b);

/** Where an event stands in the stream, for ever: LSN of its transaction's commit record, then its number in the transaction. */
export interface Position {
  readonly commitLsn: Lsn;
  /** Counted from 0 over the rows the slot sends of this transaction. Row LSNs cannot serve: COPY gives many rows one LSN. */
  readonly ordinal: number;
}

/** Negative when `a` comes before `b`, 0 when they are the same event. */
export function comparePositions(a: Position, b: Position): number {
  if (a.commitLsn !== b.commitLsn) return a.commitLsn < b.commitLsn ? -1 : 1;
  return a.ordinal - b.ordinal;
}
