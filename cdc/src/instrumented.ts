import type { ChangeEvent, EventTable, Op } from "@cascade/shared/change-event";
import { formatLsn } from "@cascade/shared/lsn";
import type { SpanAttributes, Telemetry } from "@cascade/shared/telemetry";
import { formatTableName } from "@cascade/shared/topic";
import type { CaptureStatus } from "./capture-status.ts";
import type { EventPublisher } from "./event-publisher.ts";

/** A batch may be of hundreds. */
const MAX_TABLES = 10;

/** The publisher with its spans, metrics and status: two spans and a few counters per batch. */
export function instrumentedPublisher(
  publisher: EventPublisher,
  telemetry: Telemetry,
  status: CaptureStatus,
  database: string,
): EventPublisher {
  return {
    check: () => publisher.check(),
    hasPublished: () => publisher.hasPublished(),
    recall: (announced) => publisher.recall(announced),
    announce: (news) => publisher.announce(news),
    heartbeat: (beat) => publisher.heartbeat(beat),
    publish: (events) => {
      status.publishing(events);
      const counts = countEvents(events);
      const tables = [...new Set(counts.map(({ table }) => table))];
      const attributes = attributesOf(events, tables);
      const source = { ...attributes, "db.system.name": "postgresql", "db.namespace": database };
      const destination = { ...attributes, ...messaging(events, tables) };
      return telemetry.span("cascade.capture", { kind: "internal", attributes: source }, () =>
        telemetry.span("cascade.publish", { kind: "producer", attributes: destination }, async () => {
          const started = performance.now();
          const bytes = await publisher.publish(events);
          telemetry.record("cascade_cdc_publish_duration_seconds", (performance.now() - started) / 1000);
          telemetry.add("cascade_cdc_published_bytes_total", bytes);
          for (const { table, op, count } of counts) telemetry.add("cascade_cdc_events_total", count, { table, op });
          status.published(events, bytes);
          return bytes;
        }),
      );
    },
    [Symbol.asyncDispose]: () => publisher[Symbol.asyncDispose](),
  };
}

/** What finds a change's batch: its table, and the commits between which it is. */
function attributesOf(events: readonly ChangeEvent[], tables: readonly string[]): SpanAttributes {
  const [first, last] = [events[0], events.at(-1)];
  return {
    "cascade.rows": events.length,
    "cascade.tables": tables.slice(0, MAX_TABLES),
    "cascade.first_commit_lsn": first === undefined ? "" : formatLsn(first.transaction.commitLsn),
    "cascade.commit_lsn": last === undefined ? "" : formatLsn(last.transaction.commitLsn),
  };
}

function messaging(events: readonly ChangeEvent[], tables: readonly string[]): SpanAttributes {
  const [first] = events;
  return {
    "messaging.system": "kafka",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
    ...(events.length > 1 ? { "messaging.batch.message_count": events.length } : {}),
    ...(tables.length === 1 && first !== undefined ? { "messaging.destination.name": first.table.topic } : {}),
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
