import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Partitioning } from "../partitioning.ts";
import type { PartitionMessages, SizedMessage } from "./requests.ts";

export interface PlacingOptions {
  /** Partitions of a topic. */
  countOf(topic: string): number;
  readonly partitioning: Partitioning;
  /** Of its message there, bytes. Asked once for each message, in order. */
  bytesOf(event: ChangeEvent, partition: number, count: number): number;
}

/** Events as messages of their partitions, in their order there. Runs for every row. */
export function placeEvents(
  events: readonly ChangeEvent[],
  { countOf, partitioning, bytesOf }: PlacingOptions,
): readonly PartitionMessages<ChangeEvent>[] {
  const byTopic = new Map<string, SizedMessage<ChangeEvent>[][]>();
  let topic: string | null = null;
  let lists: SizedMessage<ChangeEvent>[][] = [];
  for (const event of events) {
    if (event.table.topic !== topic) {
      topic = event.table.topic;
      lists = byTopic.get(topic) ?? Array.from({ length: countOf(topic) }, () => []);
      byTopic.set(topic, lists);
    }
    if (lists.length === 1) {
      lists[0]?.push({ message: event, bytes: bytesOf(event, 0, 1) });
      continue;
    }
    for (const { event: message, partition } of partitioning.place(event, lists.length))
      lists[partition]?.push({ message, bytes: bytesOf(message, partition, lists.length) });
  }
  return [...byTopic].flatMap(([name, partitions]) =>
    partitions.flatMap((sized, partition) => (sized.length === 0 ? [] : [{ topic: name, partition, sized }])),
  );
}
