import { kafkaOptions } from "@cascade/shared/config";
import { collectAfter } from "@cascade/shared/memory-bound";
import type { Service, ServiceContext } from "@cascade/shared/service";
import { formatTableName, type TableName, topicOf } from "@cascade/shared/topic";
import { whileAnswering } from "@cascade/shared/while-answering";
import { ApplyStatus } from "./apply-status.ts";
import { atEnd } from "./at-end.ts";
import { ShardClaim } from "./claim-shard.ts";
import type { RouterConfig } from "./config.ts";
import { AwaitedCopies, type CopyRequests } from "./copy-requests.ts";
import { type DeadLetter, type DeadLetterLog, KEY_HELD } from "./dead-letter.ts";
import { DeadLetters, type DeadLettersOptions, describeLetter } from "./dead-letters.ts";
import type { EventBatch, EventConsumer } from "./event-consumer.ts";
import type { FenceOptions } from "./fence.ts";
import { HeldBook } from "./held-book.ts";
import { applySpan, countApplied, instrumentedReplica } from "./instrumented.ts";
import { openDeadLetterLog } from "./kafka/dead-letter-log.ts";
import { type ConsumerOptions, DEFAULT_MAX_BUFFERED_BYTES, openKafkaConsumer } from "./kafka/kafka-consumer.ts";
import { LostLogs } from "./kafka/resume-offset.ts";
import { openSchemaTopic } from "./kafka/schema-topic.ts";
import { signals } from "./kafka/signals.ts";
import { type Ownership, readsOf } from "./ownership.ts";
import { pump } from "./pipeline.ts";
import { ProgressBook } from "./progress-book.ts";
import type { Replica } from "./replica.ts";
import type { SchemaBook } from "./schema-book.ts";
import { SettledSince } from "./settled-since.ts";
import { TableBook } from "./table-book.ts";
import { TableHolds } from "./table-holds.ts";
import { turn } from "./turn.ts";
import { WaitingError } from "./waiting.ts";

/** Of this process, whatever number of lives it has had. */
const STARTED_AT_MS = Math.round(performance.timeOrigin);
const SERVICE = "shard-router";
const TOPIC_POLL_MS = 1_000;
const RECHECK_MS = 10_000;
const SILENT = "the replica has not answered for 10 s";

/** Kafka, as one life of a router has it. */
export interface RouterKafka {
  openSchemas(onNews: (names: readonly TableName[]) => void): Promise<SchemaBook>;
  openConsumer(hooks: ConsumerHooks): Promise<EventConsumer>;
  openDeadLetters(): Promise<DeadLetterLog>;
  readonly requests: CopyRequests;
}

/** What outlives the lives of a router. */
interface Routing {
  readonly kafka: RouterKafka;
  readonly config: RouterConfig;
  readonly context: ServiceContext;
  readonly status: ApplyStatus;
  readonly holds: TableHolds;
  readonly lostLogs: LostLogs;
  /** What the operator should know of the replica; told once. */
  findings: readonly string[];
}

/** shard-router as a service: in each life it opens its replica and joins its group, and pumps from the topics to the replica. */
export function routingService(
  config: RouterConfig,
  context: ServiceContext,
  kafka: RouterKafka = kafkaOf(config, context),
): Service {
  const { replicaName: name, REPLICA_URL: target } = config;
  const status = new ApplyStatus(config.KAFKA_TOPIC_PREFIX, name, context.telemetry);
  const holds = new TableHolds(config, context, status);
  const routing: Routing = { kafka, config, context, status, holds, lostLogs: new LostLogs(), findings: [] };
  return {
    engineBytes: target.engineBytes,
    status: () => ({ replica: name, dialect: target.dialect, findings: routing.findings, ...status.toJSON() }),
    reasons: () => status.reasons(),
    live: async (signal) => {
      try {
        await route(routing, signal);
      } catch (error) {
        holds.count(error);
        throw error;
      }
    },
  };
}

/** One life. */
async function route(routing: Routing, signal: AbortSignal): Promise<void> {
  const { config, context, kafka, status, holds, lostLogs } = routing;
  const { logger, telemetry, health } = context;
  const { replicaName: name, REPLICA_URL: target, ownership } = config;
  await using replica = await target.open();
  const claim = new ShardClaim(replica, ownership);
  await claim.claim();
  // A replica of everything, too, may give rows up to others.
  const shard = ownership.text === "" ? { claim } : { ownership, claim };
  tellFindings(routing, replica.findings());
  const progress = new ProgressBook(replica);
  const held = new HeldBook(replica);
  let reading: EventConsumer | null = null;
  const lookAtEnd = (table: TableName) => reading?.lookAtEnd(topicOf(config.KAFKA_TOPIC_PREFIX, table));
  await using schemas = await kafka.openSchemas((names) => names.forEach(lookAtEnd));
  const ends: EventConsumer["ends"] = async (topic) => (await reading?.ends(topic)) ?? null;
  const reads = shard.ownership === undefined ? undefined : readsOf(shard.ownership, schemas.history);
  const tables = tablesOf(routing, replica, { schemas, progress, ends, lookAtEnd, shard, reads });
  const copies = new AwaitedCopies({
    schemas,
    tables,
    progress,
    requests: kafka.requests,
    ends,
    warn: (table, message) => logger.warn({ table: formatTableName(table) }, message),
  });
  let settled: Promise<void> | null = null;
  await using consumer = await kafka.openConsumer({
    lostLogs,
    identity: { replicaId: replica.id, sinceMs: STARTED_AT_MS },
    resume: async (partition) => {
      // The message that asks for it may be before the one that this router begins with.
      settled ??= schemas.settle();
      await settled;
      const offset = await progress.resume(partition);
      status.resumed(partition, offset);
      await held.reread();
      tables.reread(); // whoever had the partition before may have changed some
      await copies.askAgain();
      return offset;
    },
    settleSchemas: () => schemas.settle(),
    ...(reads === undefined ? {} : { reads }),
    applied: (partition) => progress.current(partition),
    recover: (partition, table, loss) => copies.recover(partition, table, loss),
    onPartitionError: (partition, error) => void holds.held(partition, error),
  });
  reading = consumer;
  await using deadLetters = deadLettersOf(routing, { replica, held, tables });
  status.follow(
    () => consumer.assigned(),
    () => tables.byName(),
    (partition) => held.current(partition).length,
  );
  using _ = { [Symbol.dispose]: () => status.follow(null) };
  health.running();
  logger.info({ replica: name, dialect: target.dialect, tables: config.ROUTER_TABLES.text }, "applying");
  const settledSince = new SettledSince(schemas);
  const pumping = pump(
    {
      consumer,
      replica: instrumentedReplica(replica, { name, database: target.defaultName }, telemetry),
      received: (batch) => {
        collectAfter(batch.bytes);
        status.received(batch);
      },
      traced: (batch, work) => applySpan(telemetry, { name, group: groupOf(config) }, batch, work),
      turn: (batch, poison) =>
        turn(
          batch,
          { replicaName: name, dialect: replica.dialect, schemas, tables, progress, copies, deadLetters, ...shard },
          poison,
        ),
      poison: deadLetters,
      atEnd: async (batch) => {
        await atEnd(batch, { schemas: settledSince, tables, copies, consumer, progress, status });
        if (config.ROUTER_DDL === "apply")
          await deadLetters.releaseGone(batch.partition, (oid) => schemas.history.newest(oid) === null);
      },
      applied: (batch, step) => {
        progress.moved(step.advance);
        held.moved(step.work.holds);
        for (const table of step.work.tables ?? []) if (table.renews) tables.renewed(table);
        countApplied(telemetry, name, batch, step);
        for (const letter of step.letters) tellOf(context, letter);
        if (status.applied(batch, step)) logger.info({ table: formatTableName(batch.table) }, "the table goes on");
      },
      hold: (batch, error) => {
        const delayMs = holds.afterFailure(batch.partition, error);
        if (error instanceof WaitingError) {
          tables.reread();
          return consumer.defer(leftOf(batch, progress.current(batch.partition)?.nextOffset ?? 0n), delayMs);
        }
        tables.doubt(batch.table, error);
        consumer.hold(batch.partition, delayMs);
      },
    },
    signal,
  );
  let isSilent = false;
  const onSilence = (silent: boolean) => {
    if (silent) logger.warn({ replica: name }, SILENT);
    else if (isSilent) logger.info({ replica: name }, "the replica answers again");
    isSilent = silent;
    health.silent(silent ? SILENT : null);
  };
  const check = async () => {
    await replica.check();
    await held.refresh();
    for (const name of await tables.overdue()) lookAtEnd(name);
  };
  await whileAnswering(check, pumping, { onSilence });
}

/** What is not applied of it. */
function leftOf(batch: EventBatch, nextOffset: bigint): EventBatch {
  const events = batch.events.filter(({ offset }) => offset >= nextOffset);
  return events.length === batch.events.length ? batch : { ...batch, events };
}

type Holding = Pick<DeadLettersOptions, "replica" | "held" | "tables">;

function deadLettersOf({ config, kafka }: Routing, holding: Holding): DeadLetters {
  const { ROUTER_ON_ERROR: policy, ROUTER_MAX_HELD_KEYS: maxKeys } = config;
  return new DeadLetters({ ...holding, policy, maxKeys, open: () => kafka.openDeadLetters() });
}

/** Once for each that is refused; those that only follow are counted. */
function tellOf({ logger }: ServiceContext, letter: DeadLetter): void {
  if (letter.cause === KEY_HELD) return;
  const { code, advice } = letter.cause;
  logger.error({ ...letter.partition, offset: String(letter.event.offset), code, advice }, describeLetter(letter));
}

function tellFindings(routing: Routing, findings: readonly string[]): void {
  for (const finding of findings) if (!routing.findings.includes(finding)) routing.context.logger.warn(finding);
  routing.findings = findings;
}

interface Life {
  readonly schemas: SchemaBook;
  readonly progress: ProgressBook;
  readonly ends: EventConsumer["ends"];
  lookAtEnd(table: TableName): void;
  /** Of a replica that holds a part of the rows. */
  readonly shard: { readonly ownership?: Ownership; readonly claim: ShardClaim };
  readonly reads: FenceOptions["reads"];
}

function tablesOf({ config, context, status }: Routing, replica: Replica, life: Life): TableBook {
  const { schemas, progress, ends, lookAtEnd, shard, reads } = life;
  const { ownership, claim } = shard;
  return new TableBook({
    replica,
    policy: config.ROUTER_DDL,
    prefix: config.KAFKA_TOPIC_PREFIX,
    history: schemas.history,
    matches: (name) => config.ROUTER_TABLES.matches(name),
    ends,
    ...(reads === undefined ? {} : { reads }),
    moved: (advance) => progress.moved(advance),
    changed: (name, what, now) => {
      status.schemaChanged(name);
      context.logger.info({ table: formatTableName(name) }, `${formatTableName(name)}: ${what}`);
      // By a row, to what main-db's is no more: where that is what it was before the row, nobody has looked for it again.
      lookAtEnd(name);
      lookAtEnd(now);
    },
    ...(ownership === undefined ? {} : { isDividedAnew: (from, to, rewritten) => ownership.isDividedAnew(from, to, rewritten) }),
    agreeToBring: (schema) => claim.agreeToBring(schema),
    keyRefused: (name, { message }) =>
      context.logger.warn({ table: formatTableName(name) }, `${message}: it is emptied, and this replica asks for a copy`),
  });
}

export type ConsumerHooks = Pick<
  ConsumerOptions,
  "identity" | "lostLogs" | "resume" | "settleSchemas" | "reads" | "applied" | "recover" | "onPartitionError"
>;

const groupOf = ({ KAFKA_TOPIC_PREFIX: prefix, replicaName }: RouterConfig): string => `${prefix}.${replicaName}`;

/** The part of a consumer's options that the configuration says. */
export function consumerSettings(config: RouterConfig): Omit<ConsumerOptions, "kafka" | keyof ConsumerHooks> {
  const { KAFKA_TOPIC_PREFIX: prefix, ROUTER_TABLES: tables } = config;
  return {
    prefix,
    groupId: groupOf(config),
    matches: (name) => tables.matches(name),
    limits: {
      maxBatchRows: config.ROUTER_BATCH_ROWS,
      maxBatchBytes: config.ROUTER_BATCH_BYTES,
      maxBufferedBytes: DEFAULT_MAX_BUFFERED_BYTES,
      lingerMs: config.ROUTER_BATCH_LINGER_MS,
    },
    topicPollMs: TOPIC_POLL_MS,
    recheckMs: RECHECK_MS,
  };
}

function kafkaOf(config: RouterConfig, { logger }: ServiceContext): RouterKafka {
  const { KAFKA_TOPIC_PREFIX: prefix, replicaName } = config;
  // Read anew in each life: certificates are renewed.
  const kafka = () => kafkaOptions(config, SERVICE, logger);
  return {
    openSchemas: (onNews) => openSchemaTopic({ kafka: kafka(), prefix, groupId: groupOf(config), onNews }),
    openConsumer: (hooks) => openKafkaConsumer({ kafka: kafka(), ...consumerSettings(config), ...hooks }),
    openDeadLetters: () => openDeadLetterLog({ kafka: kafka(), prefix, replica: replicaName }),
    get requests() {
      return signals({ kafka: kafka(), prefix, replica: replicaName });
    },
  };
}
