import { ApplyStatus } from "./apply-status.ts";
const reads: Record<string, () => any> = {};
const tel: any = { observe: (n: string, f: any) => (reads[n] = f), add() {}, record() {} };
const partition = { topic: "cascade.public.o", partition: 0 };
const ev = { op: "c", committedAtMs: Date.now() - 3600_000, commitLsn: 1n, ordinal: 0, before: null, after: {}, schemaId: "", marks: null } as any;
for (const events of [[ev], []]) {
  const s = new ApplyStatus("cascade", "r", tel);
  const batch = { partition, table: { schema: "public", table: "o" }, events: [], lagEvents: 100000n, nextOffset: 1n, bytes: 0, traceParents: [] } as any;
  s.received(batch);
  s.applied(batch, { advance: { partition, from: null, to: { nextOffset: 1n, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: Date.now() - 3600_000 } }, events } as any);
  console.log("events of ours:", events.length, "lag_seconds", reads["cascade_router_lag_seconds"]!()[0].value, "lag_events", reads["cascade_router_lag_events"]!().map((x: any) => x.value));
}
