import { pause } from "@cascade/shared/retry";
import type { TableName } from "@cascade/shared/topic";
import type pg from "pg";
import type { CdcConfig } from "./config.ts";
import type { Catalog } from "./postgres/catalog.ts";
import { ChunkReader } from "./postgres/chunk-reader.ts";
import { copyTables, existingTables } from "./postgres/copy-tables.ts";
import type { SchemaHistory } from "./schema-history.ts";
import type { SnapshotProgress } from "./snapshot/progress.ts";
import { Requests } from "./snapshot/requests.ts";
import type { SignalLog } from "./snapshot/signal-log.ts";
import { Snapshotter } from "./snapshot/snapshotter.ts";

const LOOK_INTERVAL_MS = 10_000;

/** The copying of tables in one life. */
export interface Snapshotting extends AsyncDisposable, Pick<Snapshotter, "merged" | "copies"> {
  /** OIDs of tables that a former life has seen leave. */
  readonly left: readonly number[];
  /** Takes up the tables that are captured by now: the stream does not tell of those that were made before its slot. */
  look(): Promise<void>;
  /** Copies, and takes requests, until `signal` aborts. Rejects with a CascadeError. */
  run(signal: AbortSignal): Promise<void>;
}

export interface SnapshottingOptions {
  readonly client: pg.Client;
  readonly catalog: Catalog;
  readonly progress: SnapshotProgress;
  readonly log: SignalLog;
  /** Changes were lost: every table is copied anew. */
  readonly anew: boolean;
  /** Tables whose topic was deleted, by OID. */
  readonly lost: ReadonlyMap<number, TableName>;
  readonly history: SchemaHistory;
}

/** Takes up what was asked for and how far it is: before the stream, whose changes depend on it. */
export async function openSnapshotting(
  config: CdcConfig,
  { client, catalog, progress, log, anew, lost, history }: SnapshottingOptions,
): Promise<Snapshotting> {
  const { CDC_DATABASE_URL: databaseUrl, CDC_TABLES: filter, KAFKA_TOPIC_PREFIX: prefix } = config;
  progress.reset();
  const initial = config.CDC_SNAPSHOT === "initial";
  const chunkRows = config.CDC_SNAPSHOT_CHUNK_ROWS;
  const openReader = () => ChunkReader.open({ databaseUrl, filter, topicPrefix: prefix, chunkRows });
  const snapshotter = new Snapshotter({ openReader, log, report: progress, initial });
  const tables = () => copyTables(client, catalog);
  const existing = (oids: readonly number[]) => existingTables(client, oids);
  const requests = new Requests({
    log,
    report: progress,
    snapshotter,
    tables,
    existing,
    initial,
    anew,
    lost: new Set(lost.keys()),
    announced: history.tables,
  });
  const { left } = await requests.resume();
  const over = new AbortController();
  return {
    left,
    copies: snapshotter.copies,
    look: () => requests.look(),
    merged: (source) => snapshotter.merged(source),
    run: async (signal) => {
      const life = AbortSignal.any([signal, over.signal]);
      const looking = async () => {
        for (;;) {
          await pause(LOOK_INTERVAL_MS, life);
          if (life.aborted) return;
          await requests.look();
        }
      };
      await Promise.all([snapshotter.run(life), requests.listen(life), looking()]);
    },
    [Symbol.asyncDispose]: async () => over.abort(),
  };
}
