import type { ChangeEvent, EventTable, Op } from "@cascade/shared/change-event";
import { formatLsn } from "@cascade/shared/lsn";
import type { Telemetry } from "@cascade/shared/telemetry";
import { formatTableName } from "@cascade/shared/topic";
import type { CaptureStatus } from "./capture-status.ts";
import type { EventPublisher } from "./event-publisher.ts";

/** The publisher with its spans, metrics and status: two spans and a few counters per batch. */
export function instrumentedPublisher(publisher: EventPublisher, telemetry: Telemetry, status: CaptureStatus): EventPublisher {
  return {
    check: () => publisher.check(),
    hasPublished: () => publisher.hasPublished(),
    recall: (announced) => publisher.recall(announced),
    announce: (news) => publisher.announce(news),
    heartbeat: (beat) => publisher.heartbeat(beat),
    publish: (events) => {
      status.publishing(events);
      const last = events.at(-1);
      const attributes = {
        "cascade.rows": events.length,
        "cascade.commit_lsn": last === undefined ? "" : formatLsn(last.transaction.commitLsn),
      };
      return telemetry.span(
        "cascade.capture",
        { kind: "internal", attributes: { ...attributes, "db.system.name": "postgresql" } },
        () =>
          telemetry.span(
            "cascade.publish",
            { kind: "producer", attributes: { ...attributes, ...messaging(events) } },
            async () => {
              const started = performance.now();
              const bytes = await publisher.publish(events);
              telemetry.record("cascade_cdc_publish_duration_seconds", (performance.now() - started) / 1000);
              telemetry.add("cascade_cdc_published_bytes_total", bytes);
              for (const { table, op, count } of countEvents(events))
                telemetry.add("cascade_cdc_events_total", count, { table, op });
              status.published(events, bytes);
              return bytes;
            },
          ),
      );
    },
    [Symbol.asyncDispose]: () => publisher[Symbol.asyncDispose](),
  };
}

function messaging(events: readonly ChangeEvent[]): Record<string, string | number> {
  const topics = new Set(events.map(({ table }) => table.topic));
  const [only] = topics;
  return {
    "messaging.system": "kafka",
    "messaging.operation.type": "send",
    "messaging.batch.message_count": events.length,
    ...(topics.size === 1 && only !== undefined ? { "messaging.destination.name": only } : {}),
  };
}

interface EventCount {
  readonly table: string;
  readonly op: Op;
  readonly count: number;
}

/** By table and op. Runs per row, so the runs of equal events that batches are made of are counted without a map. */
export function countEvents(events: readonly Pick<ChangeEvent, "table" | "op">[]): readonly EventCount[] {
  const counts = new Map<EventTable, Map<Op, number>>();
  let ofTable: Map<Op, number> = new Map();
  let table: EventTable | null = null;
  for (const event of events) {
    if (event.table !== table) {
      table = event.table;
      ofTable = counts.get(table) ?? new Map();
      counts.set(table, ofTable);
    }
    ofTable.set(event.op, (ofTable.get(event.op) ?? 0) + 1);
  }
  return [...counts].flatMap(([of, ops]) => [...ops].map(([op, count]) => ({ table: formatTableName(of), op, count })));
}
