import { SLOT_KEY } from "@cascade/cdc/src/slot-record.ts";
import type { SimulatedKafka } from "./kafka.ts";

/** What is in a topic, for whoever looks for a failure's cause. */
export function logText(kafka: SimulatedKafka, topic: string): string {
  const lines = kafka.read(topic, 0).map(({ key, value }, offset) => {
    // The slot's record is written every second.
    if (key === SLOT_KEY && value?.includes('"repair":null')) return `  ${offset} slot`;
    const { op, before, after, source } = JSON.parse(value ?? "{}") as Record<string, Record<string, unknown>>;
    if (source === undefined) return `  ${offset} ${key} ${value}`;
    const { commit_lsn, ordinal, txId, filling, replica, not_replica, snapshot_id } = source;
    const rows = `${JSON.stringify(before)} -> ${JSON.stringify(after)}`;
    return `  ${offset} ${commit_lsn}/${ordinal} tx ${txId} ${op} ${rows} ${JSON.stringify({ filling, replica, not_replica, snapshot_id })}`;
  });
  return [`${topic} from ${kafka.low(topic)}`, ...lines].join("\n");
}
