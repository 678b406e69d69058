import { OPS, type Op } from "@cascade/shared/change-event";
import { formatLsn } from "@cascade/shared/lsn";
import type { Telemetry } from "@cascade/shared/telemetry";
import { formatTableName } from "@cascade/shared/topic";
import type { DialectName } from "./dialect.ts";
import type { EventBatch } from "./event-consumer.ts";
import type { Replica } from "./replica.ts";
import type { Step } from "./turn.ts";

/** OpenTelemetry's names where they differ from ours. */
const SYSTEM_NAMES: Readonly<Partial<Record<DialectName, string>>> = { postgres: "postgresql" };

/** The replica with the span of its commit and its metrics, one batch at a time. */
export function instrumentedReplica(
  replica: Replica,
  { name, database }: { readonly name: string; readonly database: string },
  telemetry: Telemetry,
): Pick<Replica, "apply"> {
  const system = SYSTEM_NAMES[replica.dialect.name] ?? replica.dialect.name;
  return {
    apply: (work, advance) => {
      const attributes = {
        "db.system.name": system,
        "db.namespace": database,
        "db.operation.name": "COMMIT",
        ...(work.statements.length > 1 ? { "db.operation.batch.size": work.statements.length } : {}),
        "cascade.replica": name,
        "cascade.commit_lsn": formatLsn(advance.to.commitLsn),
      };
      return telemetry.span("cascade.commit", { kind: "client", attributes }, async () => {
        const started = performance.now();
        await replica.apply(work, advance);
        telemetry.record("cascade_router_apply_duration_seconds", (performance.now() - started) / 1000, { replica: name });
        telemetry.add("cascade_router_statements_total", work.statements.length, { replica: name });
      });
    },
  };
}

/** `apply` under a span that goes on with the trace in the batch's headers, and links to the others that it merges. */
export function applySpan(
  telemetry: Telemetry,
  { name, group }: { readonly name: string; readonly group: string },
  batch: EventBatch,
  apply: () => Promise<void>,
): Promise<void> {
  const attributes = {
    "messaging.system": "kafka",
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.consumer.group.name": group,
    "messaging.destination.name": batch.partition.topic,
    "messaging.destination.partition.id": String(batch.partition.partition),
    ...(batch.events.length > 1 ? { "messaging.batch.message_count": batch.events.length } : {}),
    "cascade.replica": name,
    "cascade.table": formatTableName(batch.table),
    "cascade.rows": batch.events.length,
  };
  return telemetry.span("cascade.apply", { kind: "consumer", attributes, traceparents: batch.traceParents }, apply);
}

export function countApplied(telemetry: Telemetry, replica: string, { table }: EventBatch, { events, letters }: Step): void {
  if (letters.length > 0)
    telemetry.add("cascade_router_dead_letters_total", letters.length, { replica, table: formatTableName(table) });
  const counts: Partial<Record<Op, number>> = {};
  for (const { op } of events) counts[op] = (counts[op] ?? 0) + 1;
  for (const op of OPS) {
    const count = counts[op];
    if (count !== undefined) telemetry.add("cascade_router_events_total", count, { replica, table: formatTableName(table), op });
  }
}
