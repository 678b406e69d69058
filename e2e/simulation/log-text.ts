import { DDL_PREFIX } from "@cascade/cdc/src/postgres/wal2json.ts";
import { SLOT_KEY } from "@cascade/cdc/src/slot-record.ts";
import type { SimulatedKafka } from "./kafka.ts";
import type { MainDb } from "./main-db.ts";

/** What is in a topic, for whoever looks for a failure's cause. */
export function logText(kafka: SimulatedKafka, topic: string, partition: number): string {
  const lines = kafka.read(topic, 0, undefined, partition).map(({ key, value }, offset) => {
    // The slot's record is written every second.
    if (key === SLOT_KEY && value?.includes('"repair":null')) return `  ${offset} slot`;
    const { op, before, after, source } = JSON.parse(value ?? "{}") as Record<string, Record<string, unknown>>;
    if (source === undefined) return `  ${offset} ${key} ${value}`;
    const { commit_lsn, ordinal, txId, filling, replica, not_replica, snapshot_id, moved_from, moved_to } = source;
    const rows = `${JSON.stringify(before)} -> ${JSON.stringify(after)}`;
    return `  ${offset} ${commit_lsn}/${ordinal} tx ${txId} ${op} ${rows} ${JSON.stringify({ filling, replica, not_replica, snapshot_id, moved_from, moved_to })}`;
  });
  return [`${topic}[${partition}] from ${kafka.low(topic, partition)}`, ...lines].join("\n");
}

/** The schema changes in the WAL, where they stand. */
export function ddlText({ wal }: MainDb): string {
  const lines = wal.flatMap(({ commitLsn, items }) =>
    items.flatMap((item, ordinal) => {
      if (item.kind === "gone") return [`  ${commitLsn}/${ordinal} ${item.oid} is dropped`];
      if (item.kind === "mark" && item.prefix === DDL_PREFIX) return [`  ${commitLsn}/${ordinal} ${item.content}`];
      if (item.kind !== "schema") return [];
      const { oid, table, columns } = item.schema;
      const rewritten = item.rewritten === null ? "" : ", rewritten";
      return [`  ${commitLsn}/${ordinal} ${oid} is ${table} (${columns.map(({ name }) => name)})${rewritten}`];
    }),
  );
  return ["schema changes", ...lines].join("\n");
}
