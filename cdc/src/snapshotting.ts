import { kafkaOptions } from "@cascade/shared/config";
import { withDeadline } from "@cascade/shared/kafka-errors";
import { pause } from "@cascade/shared/retry";
import type { ServiceContext } from "@cascade/shared/service";
import { signalsTopic } from "@cascade/shared/topic";
import type pg from "pg";
import type { CdcConfig } from "./config.ts";
import { openSignals } from "./kafka/signals.ts";
import type { Catalog } from "./postgres/catalog.ts";
import { ChunkReader } from "./postgres/chunk-reader.ts";
import { copyTables, existingTables } from "./postgres/copy-tables.ts";
import type { SnapshotProgress } from "./snapshot/progress.ts";
import { Requests } from "./snapshot/requests.ts";
import { Snapshotter } from "./snapshot/snapshotter.ts";

const LOOK_INTERVAL_MS = 10_000;
const CLAIM_DEADLINE_MS = 45_000;

/** The copying of tables in one life. */
export interface Snapshotting extends AsyncDisposable, Pick<Snapshotter, "merged" | "copies"> {
  /** OIDs of tables that a former life has seen leave. */
  readonly left: readonly number[];
  /** See `Requests.claim`: between opening the slot's stream and reading it. */
  claim(signal: AbortSignal): Promise<void>;
  /** Copies, and takes requests, until `signal` aborts. Rejects with a CascadeError. */
  run(signal: AbortSignal): Promise<void>;
}

/** Reads what was asked for and how far it is: before the stream, whose changes depend on it. */
export async function openSnapshotting(
  config: CdcConfig,
  { logger }: ServiceContext,
  { client, catalog, progress }: { readonly client: pg.Client; readonly catalog: Catalog; readonly progress: SnapshotProgress },
): Promise<Snapshotting> {
  const { CDC_DATABASE_URL: databaseUrl, CDC_TABLES: filter, KAFKA_TOPIC_PREFIX: prefix } = config;
  const log = await openSignals({
    kafka: kafkaOptions(config, "cdc", logger),
    prefix,
    replicationFactor: config.KAFKA_REPLICATION_FACTOR,
  });
  try {
    progress.reset();
    const initial = config.CDC_SNAPSHOT === "initial";
    const chunkRows = config.CDC_SNAPSHOT_CHUNK_ROWS;
    const openReader = () => ChunkReader.open({ databaseUrl, filter, topicPrefix: prefix, chunkRows });
    const snapshotter = new Snapshotter({ openReader, log, report: progress, initial });
    const tables = () => copyTables(client, catalog);
    const existing = (oids: readonly number[]) => existingTables(client, oids);
    const requests = new Requests({ log, report: progress, snapshotter, tables, existing, initial });
    const { left } = await requests.resume();
    const over = new AbortController();
    return {
      left,
      copies: snapshotter.copies,
      merged: (source) => snapshotter.merged(source),
      claim: (signal) => withDeadline(requests.claim(signal), CLAIM_DEADLINE_MS, `read topic ${signalsTopic(prefix)} to its end`),
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
      [Symbol.asyncDispose]: async () => {
        over.abort();
        await log[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await log[Symbol.asyncDispose]();
    throw error;
  }
}
