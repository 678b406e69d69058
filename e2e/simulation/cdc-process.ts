import { BoundedSource } from "@cascade/cdc/src/bounded-source.ts";
import { limitedPublisher } from "@cascade/cdc/src/limited-publisher.ts";
import { pump } from "@cascade/cdc/src/pipeline.ts";
import type { ChangeDecoder } from "@cascade/cdc/src/postgres/change-decoder.ts";
import { DdlWatch } from "@cascade/cdc/src/postgres/ddl-watch.ts";
import { beat } from "@cascade/cdc/src/postgres/heartbeats.ts";
import { KnownTables } from "@cascade/cdc/src/postgres/known-tables.ts";
import { checkSlot, slotActive } from "@cascade/cdc/src/postgres/slot.ts";
import { SchemaHistory } from "@cascade/cdc/src/schema-history.ts";
import { SlotStart } from "@cascade/cdc/src/slot-start.ts";
import { SnapshotProgress } from "@cascade/cdc/src/snapshot/progress.ts";
import { Requests } from "@cascade/cdc/src/snapshot/requests.ts";
import { Snapshotter } from "@cascade/cdc/src/snapshot/snapshotter.ts";
import type { CopyTable } from "@cascade/cdc/src/snapshot/table-reader.ts";
import { pause } from "@cascade/shared/retry";
import { catalogOf } from "./catalog.ts";
import type { SimulatedKafka } from "./kafka.ts";
import type { MainDb } from "./main-db.ts";
import { mainDbClient } from "./main-db-client.ts";
import { SimulatedSession } from "./main-db-session.ts";
import type { Network } from "./network.ts";
import { type Live, quietContext, type Witness } from "./process.ts";
import { SimulatedPublisher } from "./publisher.ts";
import type { Host, Scheduler } from "./scheduler.ts";
import { readSchemaMessages } from "./schema-reader.ts";
import { openSignalLog } from "./signal-log.ts";
import { PREFIX, SlotSource } from "./slot-source.ts";
import { SimulatedReader } from "./table-reader.ts";
import { CAPTURED } from "./tables.ts";

/** How soon a standby that has ended a frozen one looks again. */
const TAKES_OVER_MS = 200;
const HEARTBEAT_MS = 5_000;
const CONFIG = { CDC_DATABASE_URL: "", CDC_SLOT: PREFIX, CDC_ON_SLOT_LOST: "resnapshot" } as const;
const LOOK_MS = 10_000;
const CAPTURE = { filter: CAPTURED, prefix: PREFIX };

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
  readonly partitions: number;
}

/** cdc, put together as capture.ts and snapshotting.ts do, over simulated ports. */
export function cdcProcess(world: CdcWorld): (host: Host) => Live {
  const { scheduler, network, mainDb, kafka, witness, initial, chunkRows, batchRows, partitions } = world;
  return (process) => {
    const { logger, telemetry } = quietContext(process, witness);
    const progress = new SnapshotProgress(logger, telemetry);
    const warn = (message: string) => logger.warn(message);
    return async (_host, signal) => {
      await using session = await SimulatedSession.take(world, (ended) =>
        slotActive(PREFIX, undefined, ended ? TAKES_OVER_MS : undefined),
      );
      const client = mainDbClient(mainDb, session);
      const catalog = catalogOf(mainDb, session, CAPTURE);
      await checkSlot(client, PREFIX, { lost: true });
      const publisher = await SimulatedPublisher.open(kafka, network, partitions);
      await using log = await openSignalLog(kafka, network);
      const hasPublished = await publisher.hasPublished();
      const start = await SlotStart.judge({ config: CONFIG, client, log, hasPublished, warn });
      progress.reset();
      const openReader = async () => new SimulatedReader({ scheduler, session, mainDb, chunkRows });
      const snapshotter = new Snapshotter({ openReader, log, report: progress, initial });
      const tables = async () =>
        (await catalog.captured()).map(({ schema }): CopyTable => ({ schema, estimatedRows: null, bytes: schema.oid }));
      const existing = (oids: readonly number[]) => session.call(() => new Set(oids.filter((oid) => mainDb.tables.has(oid))));
      const history = new SchemaHistory(await readSchemaMessages(kafka, network));
      const { anew } = start;
      const announced = history.tables;
      const requests = new Requests({ log, report: progress, snapshotter, tables, existing, initial, anew, announced });
      const { left } = await requests.resume();
      const atRest = await start.make({ client, watcher: client, catalog, waiting: () => undefined, warn });
      await requests.look();
      const known = new KnownTables({ capture: CAPTURE, history, left, warn });
      const from = await start.from();
      publisher.recall(history.messages());
      await publisher.announce(await start.announcements({ tables: known, relations: atRest.relations, from }));
      await start.settle(from, atRest.slot);
      const decoder = { tables: known, told: true } as ChangeDecoder;
      await new DdlWatch({ client, catalog, decoder, mode: "required", warn }).begin();
      const opened = await SlotSource.open({ scheduler, network, mainDb, session, tables: known, maxMessages: batchRows * 3 });
      await using slot = new BoundedSource(opened, start.book, {
        eager: false,
        expected: start.expected(from),
        onOtherHistory: () => start.otherHistory(),
      });
      await start.checkBegun(from);
      const source = snapshotter.merged(slot);
      const guarded = limitedPublisher(publisher, start.book);
      const limits = { maxRows: batchRows, maxBytes: 100_000 };
      const over = new AbortController();
      // Not by AbortSignal.any: Bun keeps its listeners for ever when it is never aborted, as in a crash.
      signal.addEventListener("abort", () => over.abort());
      const life = over.signal;
      try {
        const beats = beat({ client, slot: PREFIX, intervalMs: HEARTBEAT_MS, warn }, life);
        const looking = async () => {
          for (await pause(LOOK_MS, life); !life.aborted; await pause(LOOK_MS, life)) await requests.look();
        };
        const copying = [snapshotter.run(life), requests.listen(life), looking()];
        const besides = Promise.all([...copying, beats, session.lost, start.book.failed]);
        const pumping = pump(source, guarded, limits, () => undefined, life);
        await Promise.race([pumping, besides.then(() => pumping)]);
      } finally {
        over.abort();
      }
    };
  };
}
