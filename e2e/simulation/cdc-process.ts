import type { SourceMessage } from "@cascade/cdc/src/change-source.ts";
import { pump } from "@cascade/cdc/src/pipeline.ts";
import { Announcer } from "@cascade/cdc/src/postgres/announcer.ts";
import { slotActive } from "@cascade/cdc/src/postgres/slot.ts";
import { SchemaHistory } from "@cascade/cdc/src/schema-history.ts";
import { SnapshotProgress } from "@cascade/cdc/src/snapshot/progress.ts";
import { Requests } from "@cascade/cdc/src/snapshot/requests.ts";
import { Snapshotter } from "@cascade/cdc/src/snapshot/snapshotter.ts";
import type { CopyTable } from "@cascade/cdc/src/snapshot/table-reader.ts";
import { topicOf } from "@cascade/shared/topic";
import type { SimulatedKafka } from "./kafka.ts";
import type { MainDb } from "./main-db.ts";
import type { Network } from "./network.ts";
import { type Live, quietContext, type Witness } from "./process.ts";
import { SimulatedPublisher } from "./publisher.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { readSchemaMessages } from "./schema-reader.ts";
import { openSignalLog } from "./signal-log.ts";
import { PREFIX, SlotSource } from "./slot-source.ts";
import { SimulatedReader } from "./table-reader.ts";

export interface CdcWorld {
  readonly scheduler: Scheduler;
  readonly network: Network;
  readonly mainDb: MainDb;
  readonly kafka: SimulatedKafka;
  readonly witness: Witness;
  /** CDC_SNAPSHOT=initial. */
  readonly initial: boolean;
  readonly chunkRows: number;
  readonly batchRows: number;
}

/** cdc, put together as capture.ts and snapshotting.ts do, over simulated ports. */
export function cdcProcess(world: CdcWorld): (host: Host) => Live {
  const { scheduler, network, mainDb, kafka, witness, initial, chunkRows, batchRows } = world;
  return (process) => {
    const { logger, telemetry } = quietContext(process, witness);
    const progress = new SnapshotProgress(logger, telemetry);
    const tables = () =>
      network.call("main-db", () =>
        [...mainDb.tables.values()].map(({ schema }): CopyTable => ({ schema, estimatedRows: null, bytes: schema.oid })),
      );
    const checkSlot = () =>
      network.call("main-db", () => {
        if (mainDb.slot?.holder) throw slotActive(PREFIX);
        return mainDb.slot !== null;
      });
    return async (_host, signal) => {
      await checkSlot();
      const publisher = new SimulatedPublisher(kafka, network);
      await using log = await openSignalLog(kafka, network);
      progress.reset();
      const openReader = async () => new SimulatedReader({ scheduler, network, mainDb, chunkRows });
      const snapshotter = new Snapshotter({ openReader, log, report: progress, initial });
      const existing = async (oids: readonly number[]) => new Set(oids);
      const requests = new Requests({ log, report: progress, snapshotter, tables, existing, initial, anew: false });
      const { left } = await requests.resume();
      const history = new SchemaHistory(await readSchemaMessages(kafka, network));
      const hasPublished = await publisher.hasPublished();
      if (!(await checkSlot())) {
        if (hasPublished) throw new Error("the slot is gone");
        await network.call("main-db", () => void (mainDb.slot === null && mainDb.createSlot()));
      }
      const { from, relations } = await network.call("main-db", () => ({
        from: mainDb.slot?.confirmed ?? 0n,
        relations: mainDb.firstSchemas(),
      }));
      const announcer = new Announcer(PREFIX, history, left);
      const schemas = new Map(relations.map((schema) => [schema.oid, schema]));
      const first: SourceMessage[] = [];
      for (const schema of relations) {
        const then = history.asOf(schema.oid, from);
        if (then?.kind === "schema") schemas.set(schema.oid, then.schema);
        if (history.ids.size > 0) continue;
        const at = { commitLsn: from - 1n, ordinal: 0 };
        announcer.current({ schema, topic: topicOf(PREFIX, schema) }, at, { told: true, rewritten: false }, first);
      }
      const news = first.flatMap((message) => (message.kind === "schema" ? [{ ...message, change: false }] : []));
      await publisher.announce(news);
      await using slot = await SlotSource.open({ scheduler, network, mainDb, announcer, schemas, maxMessages: batchRows * 3 });
      const source = snapshotter.merged(slot);
      const limits = { maxRows: batchRows, maxBytes: 100_000 };
      const over = new AbortController();
      const life = AbortSignal.any([signal, over.signal]);
      try {
        const pumping = pump(source, publisher, limits, () => undefined, life);
        const copying = Promise.all([snapshotter.run(life), requests.listen(life)]);
        await Promise.race([pumping, copying.then(() => pumping)]);
      } finally {
        over.abort();
      }
    };
  };
}
