import type { CascadeError } from "@cascade/shared/errors";
import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import type { Position } from "@cascade/shared/lsn";
import { Signal } from "@cascade/shared/signal";
import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { Admin, Consumer } from "kafkajs";
import {
  type EventBatch,
  type EventConsumer,
  type OwnPartition,
  type Partition,
  partitionKey,
  type ResumeOffset,
} from "../event-consumer.ts";
import { type AssignedPartition, Assignment, type StartPoint } from "./assignment.ts";
import { EventQueues, type QueueLimits } from "./event-queues.ts";
import { checkGroup, type MemberIdentity } from "./group-identity.ts";
import { GroupReader } from "./group-reader.ts";
import { OffsetReports } from "./offset-reports.ts";
import { BelowRetentionError, isLostLog, type Loss, LostLogs, startOffset } from "./resume-offset.ts";

export interface ConsumerOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** `<prefix>.<REPLICA_NAME>`. */
  readonly groupId: string;
  /** Kept over the lives of a service: what was lost stays lost. */
  readonly lostLogs?: LostLogs;
  readonly identity: MemberIdentity;
  /** Which tables this replica takes. */
  readonly matches: (name: TableName) => boolean;
  readonly resume: ResumeOffset;
  readonly limits: QueueLimits;
  /** Whether anything of a partition may be this replica's, as far as is known: asked once `resume` has answered, and at each `lookAtEnd`. */
  readonly reads?: (table: TableName, partition: number) => boolean;
  /** How often to look for new topics. */
  readonly topicPollMs: number;
  /** Up to where the replica has applied, once `resume` has said the offset. Without it a log made anew may pass for the old one. */
  readonly applied?: (partition: Partition) => Position | null;
  /** Resolves when everything that is said of tables by now has been read: awaited before messages that ask for it are delivered. */
  readonly settleSchemas?: () => Promise<void>;
  /** Kafka does not hold all that is needed of a partition: where to go on all the same, null for nowhere. */
  readonly recover?: (partition: Partition, table: TableName, loss: Loss) => Promise<bigint | null>;
  /** A partition cannot be read (OFFSET_BELOW_RETENTION, ...); the others go on. Told again at every look, while it lasts. */
  readonly onPartitionError: (partition: Partition, error: CascadeError) => void;
  /** How long until a partition that could not be read is looked at again. */
  readonly recheckMs: number;
  /** The group gives this router's partitions away when it was not heard of for this long. */
  readonly sessionTimeoutMs?: number;
  /** Kafka not heard of for this long is away. */
  readonly silenceMs?: number;
}

export const DEFAULT_MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

const CONNECT_DEADLINE_MS = 30_000;
const JOIN_DEADLINE_MS = 900;
const LAST_REPORT_DEADLINE_MS = 300;

/** Connects and starts reading ahead. Rejects with CascadeError when Kafka is away or refuses us. */
export async function openKafkaConsumer(options: ConsumerOptions): Promise<EventConsumer> {
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options.kafka, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const consumer = GroupReader.consumer(kafka, options);
  try {
    await withDeadline(Promise.all([admin.connect(), consumer.connect()]), CONNECT_DEADLINE_MS, "connect to Kafka");
  } catch (error) {
    await sockets.disconnect(consumer, admin);
    throw kafkaError(error, "connect to Kafka");
  }
  return consumerOver(options, { admin, consumer, sockets });
}

/** Reads over clients that are connected, which it owns from here on. */
export const consumerOver = (options: ConsumerOptions, kafka: ConnectedClients): EventConsumer =>
  new KafkaConsumer(options, kafka);

export interface ConnectedClients {
  readonly admin: Admin;
  readonly consumer: Consumer;
  readonly sockets: KafkaSockets;
}

interface InHand {
  readonly key: string;
  readonly assigned: AssignedPartition | undefined;
  readonly epoch: number | undefined;
}

class KafkaConsumer implements EventConsumer {
  readonly #options: ConsumerOptions;
  readonly #kafka: ConnectedClients;
  readonly #queues: EventQueues;
  readonly #assignment: Assignment;
  readonly #reader: GroupReader;
  readonly #reports: OffsetReports;
  readonly #lostLogs: LostLogs;
  readonly #looks: WatermarkLooks;
  readonly #arrived = new Signal();
  readonly #pulled = new Signal();
  /** Partitions whose end the caller wants to hear of, and since when. */
  readonly #toLookAt = new Map<string, number>();
  readonly #delayed = new Set<Timer>();
  /** The partition whose batch the caller has and is not done with, as it was read then. */
  #inHand: InHand | null = null;
  #failure: CascadeError | null = null;
  #closed = false;

  constructor(options: ConsumerOptions, kafka: ConnectedClients) {
    const { admin, consumer } = kafka;
    this.#options = options;
    this.#lostLogs = options.lostLogs ?? new LostLogs();
    this.#kafka = kafka;
    this.#looks = new WatermarkLooks(admin);
    this.#queues = new EventQueues(options.limits);
    this.#reports = new OffsetReports(consumer, options.kafka.logger);
    this.#assignment = new Assignment({
      control: consumer,
      tableOf: (topic) => tableOfTopic(options.prefix, topic) as TableName,
      start: (partition, fetched) => this.#start(partition, fetched),
      onPartitionError: (partition, error) => this.#stopPartition(partition, error),
      recheckMs: options.recheckMs,
      onFailure: (error) => this.#fail(error),
      onDropped: (key) => this.#drop(key),
      onReading: (key) => {
        this.#toLookAt.set(key, performance.now());
        this.#arrived.notify();
      },
    });
    this.#reader = new GroupReader({
      ...options,
      admin,
      looks: this.#looks,
      consumer,
      queues: this.#queues,
      assignment: this.#assignment,
      roomMade: this.#pulled,
      checkGroup: () => checkGroup(admin, options.groupId, options.identity),
      onArrived: () => this.#arrived.notify(),
      onFailure: (error) => this.#fail(error),
    });
    kafka.sockets.onLost = () => this.#assignment.doubt();
    void this.#reader.run();
  }

  async *batches(signal: AbortSignal): AsyncGenerator<EventBatch, void, undefined> {
    const wake = () => this.#arrived.notify();
    signal.addEventListener("abort", wake);
    try {
      while (!signal.aborted && !this.#closed) {
        if (this.#failure) throw this.#failure;
        const batch = this.#take() ?? this.#atEnd();
        if (!batch) {
          await this.#arrived.wait(this.#queues.dueInMs ?? undefined);
          continue;
        }
        const key = partitionKey(batch.partition);
        const assigned = this.#assignment.get(key);
        this.#inHand = { key, assigned, epoch: assigned?.epoch };
        yield batch;
        this.#handBack();
        // A replica in our own thread (SQLite) answers without one: heartbeats, fetches and timers would wait for the queues to run dry.
        await Bun.sleep(0); // a turn of the event loop, 3 us
      }
    } finally {
      signal.removeEventListener("abort", wake);
      this.#handBack();
    }
  }

  confirm(partition: Partition, nextOffset: bigint): void {
    if (this.#assignment.get(partitionKey(partition))) this.#reports.add(partition, nextOffset);
  }

  hold(partition: Partition, delayMs: number): void {
    const assigned = this.#assignment.get(partitionKey(partition));
    if (assigned) this.#assignment.hold(assigned, delayMs);
  }

  defer(batch: EventBatch, delayMs: number): void {
    const key = partitionKey(batch.partition);
    const assigned = this.#assignment.get(key);
    const { assigned: before, epoch } = this.#inHand ?? {};
    // Lost and given again meanwhile, it is read from where the replica is.
    if (assigned === undefined || assigned !== before || assigned.epoch !== epoch) return;
    if (batch.events.length > 0 && this.#queues.putBack(key, batch, delayMs)) return;
    this.#assignment.hold(assigned, delayMs);
  }

  lookAtEnd(topic: string, delayMs = 0): void {
    if (delayMs > 0) {
      const timer = setTimeout(() => {
        this.#delayed.delete(timer);
        this.lookAtEnd(topic);
      }, delayMs);
      this.#delayed.add(timer);
      return;
    }
    const mine = this.#assignment.list().filter(({ partition }) => partition.topic === topic);
    for (const assigned of mine) {
      const isRead = this.#isRead(assigned.partition, assigned.table);
      if (assigned.state === (isRead ? "unread" : "reading")) this.#assignment.hold(assigned, 0);
    }
    for (const { key, state } of mine) if (state !== "unread") this.#toLookAt.set(key, performance.now());
    if (mine.length > 0) this.#arrived.notify();
  }

  async ends(topic: string): Promise<ReadonlyMap<number, bigint> | null> {
    const { admin } = this.#kafka;
    try {
      // Asked for a topic that is not there, kafkajs would look for it from then on. Those that are read are known to be.
      if (!this.#reader.reads(topic) && !(await admin.listTopics()).includes(topic)) return null;
      const found = await this.#looks.ofTopic(topic);
      return new Map([...found].map(([partition, { high }]) => [partition, high]));
    } catch (error) {
      throw kafkaError(error, `read the offsets of topic ${topic}`);
    }
  }

  assigned(): readonly OwnPartition[] {
    const read = this.#assignment.list().filter(({ state }) => state !== "unread");
    return read.map(({ partition, highWatermark }) => ({ ...partition, highWatermark }));
  }

  #take(): EventBatch | null {
    const taken = this.#queues.take();
    if (!taken) return null;
    const assigned = this.#assignment.get(taken.key);
    if (!assigned) throw new Error(`events of ${taken.key} outlived its assignment`);
    const { key: _key, ...events } = taken;
    return { partition: assigned.partition, table: assigned.table, ...events };
  }

  /** A batch without events, of a partition to be looked at that nothing is queued of. */
  #atEnd(): EventBatch | null {
    for (const [key, lookedForMs] of this.#toLookAt) {
      const assigned = this.#assignment.get(key);
      if (assigned === undefined) this.#toLookAt.delete(key);
      if (assigned?.state !== "reading" || this.#queues.holds(key)) continue;
      this.#toLookAt.delete(key);
      const { partition, table, nextOffset } = assigned;
      return { partition, table, events: [], nextOffset, bytes: 0, lagEvents: 0n, traceParents: [], lookedForMs };
    }
    return null;
  }

  /** The caller is done with its batch: its progress can be read, and there is room. */
  #handBack(): void {
    this.#inHand = null;
    this.#pulled.notify();
  }

  #isRead({ partition }: Partition, table: TableName): boolean {
    return this.#options.reads?.(table, partition) ?? true;
  }

  async #start(partition: Partition, fetched: bigint | null): Promise<StartPoint | null> {
    // The replica's progress is about to move: what it says now would deliver the batch in hand again.
    const key = partitionKey(partition);
    while (this.#inHand?.key === key) await this.#pulled.wait();
    const remembered = await this.#options.resume(partition);
    if (!this.#isRead(partition, tableOfTopic(this.#options.prefix, partition.topic) as TableName)) return null;
    try {
      this.#lostLogs.check(key, remembered);
      const { offset, low } = await startOffset(this.#looks, partition, remembered);
      // What this consumer has fetched itself is of this log, though the replica's offset may have been moved past it by hand.
      const isKnown = offset <= low || offset <= (fetched ?? 0n);
      const applied = isKnown ? null : (this.#options.applied?.(partition) ?? null);
      return { offset, applied: applied?.commitLsn === 0n ? null : applied };
    } catch (error) {
      const recovered = await this.#recover(partition, error, remembered);
      if (recovered !== null) {
        this.#lostLogs.forget(key);
        return { offset: recovered, applied: null };
      }
      this.#lostLogs.note(key, error, remembered);
      throw error;
    }
  }

  async #recover(partition: Partition, error: unknown, remembered: bigint | null): Promise<bigint | null> {
    const { recover, prefix } = this.#options;
    if (recover === undefined) return null;
    const table = tableOfTopic(prefix, partition.topic) as TableName;
    if (error instanceof BelowRetentionError) return recover(partition, table, { low: error.low, remembered });
    if (!isLostLog(error)) return null;
    const { low } = await this.#looks.of(partition);
    return recover(partition, table, { low, remembered });
  }

  #stopPartition(partition: Partition, error: CascadeError): void {
    this.#lostLogs.note(partitionKey(partition), error);
    this.#options.onPartitionError(partition, error);
  }

  #drop(key: string): void {
    this.#queues.drop(key);
    this.#reports.drop(key);
    this.#pulled.notify();
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    this.#failure ??= kafkaError(error, "read from Kafka");
    this.#arrived.notify();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#delayed) clearTimeout(timer);
    this.#reports.stop();
    this.#arrived.notify();
    await Promise.race([this.#reports.flush(), Bun.sleep(LAST_REPORT_DEADLINE_MS)]);
    await Promise.race([this.#reader.stop(), Bun.sleep(JOIN_DEADLINE_MS)]);
    this.#assignment.clear();
    const { consumer, admin, sockets } = this.#kafka;
    await sockets.disconnect(consumer, admin);
    // A join that was under way may have come in between.
    this.#assignment.clear();
  }
}
