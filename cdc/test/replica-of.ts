import type { OwnedEvent } from "@cascade/shared/change-event";
import { keyIn, membersOf, rowOf } from "../src/snapshot/row-json.ts";

/**
 * What a replica that had no row before has after these events, as JSON by key; of a table without a key, its rows in order. Fails where a
 * router would hold the table: an update that must find its row and does not.
 */
export function replicaOf(events: readonly OwnedEvent[], key: readonly string[], replica = "any"): ReadonlyMap<string, string> {
  const rows = new Map<string, string>();
  let at: readonly [bigint, number] = [-1n, -1];
  for (const event of events) {
    const { op, table, before, after, transaction, ordinal } = event;
    const [lsn, last] = at;
    if (transaction.commitLsn < lsn || (transaction.commitLsn === lsn && ordinal <= last)) continue; // delivered again
    at = [transaction.commitLsn, ordinal];
    if ((table.replica ?? replica) !== replica || table.notReplica === replica) continue;
    if (op === "t") rows.clear();
    const oldKey = before === null ? event.key : (keyIn(before, key) ?? event.key);
    const old = oldKey === null ? undefined : rows.get(oldKey);
    if (oldKey !== null) rows.delete(oldKey);
    if (op === "d" || op === "t" || after === null || event.key === null) continue;
    const columns = membersOf(after);
    if (op === "u" && old === undefined && table.filling !== true && columns.size < 3)
      throw new Error(`an update misses its row ${oldKey}`);
    const whole = op === "u" && old !== undefined ? new Map([...membersOf(old), ...columns]) : columns;
    // A part of a row that is missing is not kept: the copy brings all of it.
    if (op !== "u" || old !== undefined || columns.size >= 3) rows.set(event.key, rowOf(whole));
  }
  return rows;
}

/** The same for a table without a key: its rows in order of their text. Fails where a router would: an old row that is not there. */
export function keylessReplicaOf(events: readonly OwnedEvent[], replica = "any"): readonly string[] {
  const rows: string[] = [];
  let at: readonly [bigint, number] = [-1n, -1];
  for (const { op, table, before, after, transaction, ordinal } of events) {
    const [lsn, last] = at;
    if (transaction.commitLsn < lsn || (transaction.commitLsn === lsn && ordinal <= last)) continue;
    at = [transaction.commitLsn, ordinal];
    if ((table.replica ?? replica) !== replica || table.notReplica === replica) continue;
    if (op === "t") rows.length = 0;
    if (before !== null) {
      const found = rows.indexOf(before);
      if (found === -1) throw new Error(`an old row is not there: ${before}`);
      rows.splice(found, 1);
    }
    if (after !== null) rows.push(after);
  }
  return rows.sort();
}
