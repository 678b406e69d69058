import { kafkaOptions } from "@cascade/shared/config";
import type { Service, ServiceContext } from "@cascade/shared/service";
import { RefusalError } from "@cascade/shared/settings";
import { whileAnswering } from "@cascade/shared/while-answering";
import type { ChangeBatch } from "./batching.ts";
import { CaptureStatus } from "./capture-status.ts";
import type { ChangeSource } from "./change-source.ts";
import type { CdcConfig } from "./config.ts";
import type { Announcement, EventPublisher } from "./event-publisher.ts";
import { instrumentedPublisher } from "./instrumented.ts";
import { openKafkaPublisher } from "./kafka/kafka-publisher.ts";
import { readSchemaHistory } from "./kafka/schema-topic.ts";
import { pump } from "./pipeline.ts";
import { Catalog } from "./postgres/catalog.ts";
import { ChangeDecoder } from "./postgres/change-decoder.ts";
import { refuseUncopyable } from "./postgres/copy-rights.ts";
import { ensureDdlCapture } from "./postgres/ddl-capture.ts";
import { DdlWatch } from "./postgres/ddl-watch.ts";
import { identityWatch } from "./postgres/identity-watch.ts";
import { withLostNumbers } from "./postgres/lost-numbers.ts";
import { NumberReader } from "./postgres/number-reader.ts";
import { probePlugin } from "./postgres/plugin-options.ts";
import { PollSource } from "./postgres/poll-source.ts";
import { preflight } from "./postgres/preflight.ts";
import { refuseUnreadable } from "./postgres/read-rights.ts";
import { checkAnswers, connect, databaseName, openSession } from "./postgres/session.ts";
import { checkSlot, slotState } from "./postgres/slot.ts";
import { slotAtRest } from "./postgres/slot-at-rest.ts";
import { watchSlot } from "./postgres/slot-watch.ts";
import { WalSource } from "./postgres/wal-source.ts";
import type { PluginOptions } from "./postgres/wal2json.ts";
import { SnapshotProgress } from "./snapshot/progress.ts";
import { openSnapshotting } from "./snapshotting.ts";

const SERVICE = "cdc";
const ANNOUNCED_AT_ONCE = 100;
const IDENTITY_INTERVAL_MS = 10_000;
const LOOKS_NUMBERS_UP =
  "main-db's wal2json is older than 2.6 and sends NaN and infinities as null: what is null in a real, double precision or numeric column is looked up in its table";

/** cdc as a service: in each life it checks main-db, makes sure of the slot, and pumps from the slot to Kafka. */
export function captureService(config: CdcConfig, context: ServiceContext): Service {
  const { logger, telemetry, health } = context;
  const status = new CaptureStatus(config.CDC_SLOT, telemetry);
  const limits = { maxRows: config.CDC_BATCH_ROWS, maxBytes: config.CDC_BATCH_BYTES };
  const onPublished = (batch: ChangeBatch) => {
    status.confirmed(batch);
    if (batch.transactions > 0) telemetry.add("cascade_cdc_transactions_total", batch.transactions);
  };
  const progress = new SnapshotProgress(logger, telemetry);
  return {
    status: () => ({ ...status.toJSON(), snapshots: progress.toJSON() }),
    reasons: () => progress.reasons(),
    live: async (signal) => {
      await using session = await openSession(config.CDC_DATABASE_URL);
      const catalog = new Catalog(session.client, config.CDC_TABLES, config.KAFKA_TOPIC_PREFIX);
      const findings = await preflight(session.client, catalog, config.CDC_MODE);
      if (findings.length > 0) throw new RefusalError(findings);
      await checkSlot(session.client, config.CDC_SLOT); // before Kafka is troubled: a standby looks every second
      await using publisher = await openPublisher(config, context, await databaseName(session.client));
      await using snapshotting = await openSnapshotting(config, context, { client: session.client, catalog, progress });
      const copied = snapshotting.copies.all.map(({ job }) => job);
      await refuseUncopyable(session.client, copied);
      const history = await readSchemaHistory(kafkaOptions(config, SERVICE, logger), config.KAFKA_TOPIC_PREFIX);
      const warn = (message: string) => logger.warn(message);
      // Before the slot: every schema change that the stream holds is to be told in it.
      await using ddlSession = await openSession(config.CDC_DATABASE_URL);
      const told = await ensureDdlCapture(ddlSession.client, config.CDC_DDL, warn);
      const request = { slot: config.CDC_SLOT, hasPublished: await publisher.hasPublished() };
      const { slot, relations } = await slotAtRest({
        client: session.client,
        watcher: ddlSession.client,
        catalog,
        request,
        waiting: (reason) => health.waiting(reason),
        warn,
      });
      if (slot === "created")
        logger.info({ slot: config.CDC_SLOT }, "replication slot created: changes are captured from here on");
      const plugin = await probePlugin(session.client, config.CDC_SLOT);
      if (plugin.losesNumbers) {
        await refuseUnreadable(session.client, catalog, slot === "created" ? config.CDC_SLOT : null);
        logger.info(LOOKS_NUMBERS_UP);
      }
      const decoder = new ChangeDecoder({ catalog, warn, losesNumbers: plugin.losesNumbers, history, left: snapshotting.left });
      decoder.told = told;
      const from = (await slotState(session.client, config.CDC_SLOT))?.confirmedLsn ?? 0n;
      await announceAll(publisher, decoder.tables.begin(relations, from));
      const ddl = new DdlWatch({ client: ddlSession.client, catalog, decoder, mode: config.CDC_DDL, warn });
      await ddl.begin();
      await using reader = plugin.losesNumbers ? await NumberReader.open(config.CDC_DATABASE_URL, warn) : null;
      await using slotSource = await openSource(config, decoder, plugin.options);
      await snapshotting.claim(signal);
      const source = snapshotting.merged(reader === null ? slotSource : withLostNumbers(slotSource, decoder, reader));
      await using _watch = watchSlot(config.CDC_DATABASE_URL, config.CDC_SLOT, (state) => status.slot(state));
      health.running();
      logger.info({ slot: config.CDC_SLOT, mode: config.CDC_MODE, tables: config.CDC_TABLES.text }, "capturing");
      const instrumented = instrumentedPublisher(publisher, telemetry, status);
      // Empty when main-db cannot be asked now: whether that is an error is for those to say who need it.
      const identities = identityWatch(() => catalog.captured().catch(() => []));
      void identities(); // the first look only takes note
      const pumping = beside(pump(source, instrumented, limits, onPublished, signal), snapshotting.run(signal));
      const answering = whileAnswering(() => publisher.check(), pumping);
      const unchanged = whileAnswering(() => checkAnswers(session.client).then(() => ddl.check()), answering);
      await whileAnswering(identities, unchanged, { intervalMs: IDENTITY_INTERVAL_MS });
    },
  };
}

/** `work` to its end, unless `other` fails before. */
function beside(work: Promise<void>, other: Promise<void>): Promise<void> {
  return Promise.race([work, other.then(() => work)]);
}

/** Topics are made by the hundred: a broker takes a while over thousands. */
async function announceAll(publisher: EventPublisher, news: readonly Announcement[]): Promise<void> {
  for (let start = 0; start < news.length; start += ANNOUNCED_AT_ONCE)
    await publisher.announce(news.slice(start, start + ANNOUNCED_AT_ONCE));
}

function openPublisher(config: CdcConfig, { logger, telemetry }: ServiceContext, db: string): Promise<EventPublisher> {
  return openKafkaPublisher({
    kafka: kafkaOptions(config, SERVICE, logger),
    prefix: config.KAFKA_TOPIC_PREFIX,
    db,
    partitions: 1,
    replicationFactor: config.KAFKA_REPLICATION_FACTOR,
    compression: config.KAFKA_COMPRESSION,
    traceparent: () => telemetry.traceparent(),
  });
}

async function openSource(config: CdcConfig, decoder: ChangeDecoder, pluginOptions: PluginOptions): Promise<ChangeSource> {
  const { CDC_DATABASE_URL: url, CDC_SLOT: slot } = config;
  switch (config.CDC_MODE) {
    case "stream":
      return WalSource.open({
        client: await connect(url, { replication: true }),
        slot,
        pluginOptions,
        decoder,
        maxMessages: config.CDC_BATCH_ROWS,
        lingerMs: config.CDC_BATCH_LINGER_MS,
      });
    case "poll":
      return new PollSource({
        client: await connect(url),
        slot,
        pluginOptions,
        decoder,
        intervalMs: config.CDC_POLL_INTERVAL_MS,
      });
  }
}
