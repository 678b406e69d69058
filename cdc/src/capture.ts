import { kafkaOptions } from "@cascade/shared/config";
import { CascadeError } from "@cascade/shared/errors";
import type { Service, ServiceContext } from "@cascade/shared/service";
import { RefusalError } from "@cascade/shared/settings";
import { formatTableName } from "@cascade/shared/topic";
import { whileAnswering } from "@cascade/shared/while-answering";
import type { ChangeBatch } from "./batching.ts";
import { BoundedSource } from "./bounded-source.ts";
import { CaptureStatus } from "./capture-status.ts";
import type { CdcConfig } from "./config.ts";
import type { Announcement, EventPublisher } from "./event-publisher.ts";
import { instrumentedPublisher } from "./instrumented.ts";
import { readSchemaHistory } from "./kafka/schema-topic.ts";
import { limitedPublisher } from "./limited-publisher.ts";
import { pump } from "./pipeline.ts";
import { openPublisher, openSignalLog, openSource } from "./ports.ts";
import { Catalog } from "./postgres/catalog.ts";
import { ChangeDecoder } from "./postgres/change-decoder.ts";
import { refuseUncopyable } from "./postgres/copy-rights.ts";
import { ensureDdlCapture } from "./postgres/ddl-capture.ts";
import { DdlWatch } from "./postgres/ddl-watch.ts";
import { beat } from "./postgres/heartbeats.ts";
import { identityWatch } from "./postgres/identity-watch.ts";
import { withLostNumbers } from "./postgres/lost-numbers.ts";
import { NumberReader } from "./postgres/number-reader.ts";
import { probePlugin } from "./postgres/plugin-options.ts";
import { preflight } from "./postgres/preflight.ts";
import { refuseUnreadable } from "./postgres/read-rights.ts";
import { checkAnswers, databaseName, openSession, unjudgedError } from "./postgres/session.ts";
import { checkSlot } from "./postgres/slot.ts";
import { SlotHolder, StandbyWatch } from "./postgres/slot-holder.ts";
import { slotReporting } from "./slot-reporting.ts";
import { SlotStart } from "./slot-start.ts";
import { SnapshotProgress } from "./snapshot/progress.ts";
import { openSnapshotting } from "./snapshotting.ts";

const SERVICE = "cdc";
const ANNOUNCED_AT_ONCE = 100;
const IDENTITY_INTERVAL_MS = 10_000;
const LOOKS_NUMBERS_UP =
  "main-db's wal2json is older than 2.6 and sends NaN and infinities as null: what is null in a real, double precision or numeric column is looked up in its table";

const LOST_TOPIC = {
  initial: "the table is emptied and filled on every replica, when it is still captured",
  never: "changes that a replica had not applied yet are lost; ask for a snapshot of the table (CDC_SNAPSHOT=never)",
} as const;

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
  const { CDC_DATABASE_URL: url, CDC_SLOT: slot } = config;
  const standby = new StandbyWatch(slot, (message) => logger.warn(message));
  const reporting = slotReporting(config, context, status);
  return withMainDbsErrors({
    status: () => ({ ...status.toJSON(), snapshots: progress.toJSON() }),
    reasons: () => [...progress.reasons(), ...status.reasons()],
    live: async (signal) => {
      reporting.begin(signal);
      const warn = (message: string) => logger.warn(message);
      const taking = SlotHolder.take(url, slot, standby);
      await using holder = await taking.catch((error: unknown) => {
        if (error instanceof CascadeError && error.code === "SLOT_ACTIVE") {
          status.standsBy();
          progress.reset();
        }
        throw error;
      }); // before Kafka is troubled: a standby looks every second
      await using session = await openSession(url, { synchronous_commit: "local" });
      const { client } = session;
      const catalog = new Catalog(client, config.CDC_TABLES, config.KAFKA_TOPIC_PREFIX);
      const findings = await preflight(client, catalog, config.CDC_MODE);
      if (findings.length > 0) throw new RefusalError(findings);
      await checkSlot(client, slot, { lost: true });
      const database = await databaseName(client);
      await using publisher = await openPublisher(config, context, database);
      // Both at once: who takes over is waited for. Only now: nobody else announces any more.
      const reading = readSchemaHistory(kafkaOptions(config, SERVICE, logger), config.KAFKA_TOPIC_PREFIX);
      reading.catch(() => undefined); // when something else fails before
      await using log = await openSignalLog(config, context);
      const start = await SlotStart.judge({ config, client, log, hasPublished: await publisher.hasPublished(), warn });
      const { history, lost } = await reading;
      for (const name of lost.values())
        warn(`the topic of ${formatTableName(name)} was deleted: ${LOST_TOPIC[config.CDC_SNAPSHOT]}`);
      await using snapshotting = await openSnapshotting(config, {
        client,
        catalog,
        progress,
        log,
        anew: start.anew,
        lost,
        history,
      });
      await refuseUncopyable(
        client,
        snapshotting.copies.all.map(({ job }) => job),
      );
      // Before the slot: every schema change that the stream holds is to be told in it.
      await using ddlSession = await openSession(url);
      const told = await ensureDdlCapture(ddlSession.client, config.CDC_DDL, warn);
      const atRest = await start.make({
        client,
        watcher: ddlSession.client,
        catalog,
        waiting: (reason) => health.waiting(reason),
        warn,
      });
      await snapshotting.look();
      if (atRest.slot === "created") logger.info({ slot }, "replication slot created: changes are captured from here on");
      const plugin = await probePlugin(client, slot);
      if (plugin.losesNumbers) {
        await refuseUnreadable(client, catalog, atRest.slot === "created" ? slot : null);
        logger.info(LOOKS_NUMBERS_UP);
      }
      const { left } = snapshotting;
      const decoder = new ChangeDecoder({ catalog, warn, losesNumbers: plugin.losesNumbers, history, left, slot });
      decoder.told = told;
      const from = await start.from();
      const news = await start.announcements({ tables: decoder.tables, relations: atRest.relations, from });
      publisher.recall(history.messages());
      await announceAll(publisher, news);
      await start.settle(from, atRest.slot);
      const ddl = new DdlWatch({ client: ddlSession.client, catalog, decoder, mode: config.CDC_DDL, warn });
      await ddl.begin();
      await using reader = plugin.losesNumbers ? await NumberReader.open(url, warn) : null;
      const opened = await openSource(config, decoder, plugin.options, from);
      await using slotSource = new BoundedSource(opened, start.book, {
        eager: config.CDC_MODE === "poll",
        expected: start.expected(from),
        onOtherHistory: () => start.otherHistory(),
      });
      await start.checkBegun(from);
      const source = snapshotting.merged(reader === null ? slotSource : withLostNumbers(slotSource, decoder, reader));
      health.running();
      logger.info({ slot, mode: config.CDC_MODE, tables: config.CDC_TABLES.text }, "capturing");
      const guarded = limitedPublisher(instrumentedPublisher(publisher, telemetry, status, database), start.book);
      // Empty when main-db cannot be asked now: whether that is an error is for those to say who need it.
      const identities = identityWatch(() => catalog.captured().catch(() => []));
      void identities(); // the first look only takes note
      const beats = beat({ client, slot, intervalMs: config.CDC_HEARTBEAT_INTERVAL_MS, warn }, signal);
      const besides = Promise.all([snapshotting.run(signal), beats, holder.lost, start.book.failed]);
      const pumping = beside(pump(source, guarded, limits, onPublished, signal), besides);
      const answering = whileAnswering(() => publisher.check(), pumping);
      const unchanged = whileAnswering(async () => {
        await checkAnswers(client);
        await start.checkStandbys();
        await ddl.check();
      }, answering);
      await whileAnswering(identities, unchanged, { intervalMs: IDENTITY_INTERVAL_MS });
    },
  });
}

/** Main-db may go at any query. */
function withMainDbsErrors(service: Service): Service {
  const live = (signal: AbortSignal): Promise<void> =>
    service.live(signal).catch((error: unknown) => {
      throw unjudgedError(error);
    });
  return { ...service, live };
}

/** `work` to its end, unless `other` fails before. */
function beside(work: Promise<void>, other: Promise<unknown>): Promise<void> {
  return Promise.race([work, other.then(() => work)]);
}

/** Topics are made by the hundred: a broker takes a while over thousands. */
async function announceAll(publisher: EventPublisher, news: readonly Announcement[]): Promise<void> {
  for (let start = 0; start < news.length; start += ANNOUNCED_AT_ONCE)
    await publisher.announce(news.slice(start, start + ANNOUNCED_AT_ONCE));
}
