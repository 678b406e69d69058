import { positionOf } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { KAFKA_RETRY } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import type { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import { Signal } from "@cascade/shared/signal";
import type { TableName } from "@cascade/shared/topic";
import type { Admin, Consumer, EachBatchPayload, Kafka } from "kafkajs";
import { type Partition, partitionKey } from "../event-consumer.ts";
import type { AssignedPartition, Assignment } from "./assignment.ts";
import type { EventQueues } from "./event-queues.ts";
import { fetchedEvents } from "./fetched-events.ts";
import { type AssignerOptions, identifyingAssigner } from "./member-assigner.ts";
import { isAfter, isLostLog, logReplaced, logRestarted, startOffset } from "./resume-offset.ts";
import { deletedTopic, listTableTopics } from "./table-topics.ts";

export interface MemberOptions extends AssignerOptions {
  readonly groupId: string;
  readonly sessionTimeoutMs?: number;
}

export interface GroupReaderOptions {
  readonly admin: Admin;
  readonly looks: WatermarkLooks;
  readonly consumer: Consumer;
  readonly prefix: string;
  readonly matches: (name: TableName) => boolean;
  readonly topicPollMs: number;
  readonly silenceMs?: number;
  /** How often it is looked where all topics begin. */
  readonly reviewMs?: number;
  readonly queues: EventQueues;
  readonly assignment: Assignment;
  /** Notified when something was taken from the queues or dropped. */
  readonly roomMade: Signal;
  readonly onArrived: () => void;
  /** See ConsumerOptions. */
  readonly settleSchemas?: (() => Promise<void>) | undefined;
  /** After each join: rejects when this member should not be in the group. */
  readonly checkGroup: () => Promise<void>;
  /** Reading has ended for good. */
  readonly onFailure: (error: unknown) => void;
}

/** Short: it bounds how long the others of the group wait for this member at a rebalance. */
const HEARTBEAT_INTERVAL_MS = 500;
/** A router that was killed is missed for this long. Above any pause an embedded replica (SQLite, DuckDB) makes by applying in our thread. */
const DEFAULT_SESSION_TIMEOUT_MS = 15_000;
/**
 * A router that is started in the place of one that was killed waits this long for the dead one's part in the rebalance. One that is alive
 * takes its part within a heartbeat; one that is late (its thread was applying) joins again, and its replica's progress keeps all in order.
 */
const REBALANCE_TIMEOUT_MS = 2_000;
/** Longest poll of an idle topic: data end it at once (minBytes 1), so it only bounds how long stopping takes. */
const MAX_WAIT_MS = 100;
/** kafkajs's objects cost a multiple of their bytes while a fetch is decoded: larger fetches are no faster, only larger. */
const MAX_FETCH_BYTES = 2 * 1024 * 1024;
const MAX_PARTITION_FETCH_BYTES = 1024 * 1024;
/** A topic that is deleted while this router fetches nothing is made anew by cdc's next life, and past the router's offset, later than this. */
const UNASKED_MS = 500;
/**
 * Each join takes all partitions from all routers for a moment, and its work grows with the topics there are: while they are being made by
 * the hundred, as for a new pipeline, there is one after so long, or when a look finds no further ones.
 */
const JOIN_PAUSE_MS = 10_000;
/** How long until partitions are seen that a topic was given: cdc divides rows over those of a topic that was empty then. */
const METADATA_MAX_AGE_MS = 30_000;
/** kafkajs neither fetched nor beat for this long: a broker hangs. Longer than a rebalance may take. */
const DEFAULT_SILENCE_MS = 30_000;
const DEFAULT_REVIEW_MS = 60_000;

/** Keeps this member in its group, subscribed to the topics there are, and moves what it fetches into the queues. */
export class GroupReader {
  readonly #options: GroupReaderOptions;
  readonly #stopped = new Signal();
  #subscribed = new Set<string>();
  /** How many topics there were at the last look. */
  #listed = 0;
  #joinedMs = Number.NEGATIVE_INFINITY;
  #stopping = false;
  #joining: Promise<unknown> = Promise.resolve();
  #lastSignMs = performance.now();
  #reviewedMs = performance.now();

  static consumer(kafka: Kafka, { groupId, sessionTimeoutMs = DEFAULT_SESSION_TIMEOUT_MS, ...member }: MemberOptions): Consumer {
    return kafka.consumer({
      groupId,
      partitionAssigners: [identifyingAssigner(member)],
      allowAutoTopicCreation: false,
      heartbeatInterval: HEARTBEAT_INTERVAL_MS,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: REBALANCE_TIMEOUT_MS,
      maxWaitTimeInMs: MAX_WAIT_MS,
      minBytes: 1,
      maxBytes: MAX_FETCH_BYTES,
      maxBytesPerPartition: MAX_PARTITION_FETCH_BYTES,
      metadataMaxAge: METADATA_MAX_AGE_MS,
      // Restarting is the service's, with fresh ports: kafkajs would do it in silence.
      retry: { ...KAFKA_RETRY, restartOnFailure: async () => false },
    });
  }

  constructor(options: GroupReaderOptions) {
    this.#options = options;
    const { consumer, assignment, onFailure } = options;
    const { GROUP_JOIN, CRASH, HEARTBEAT, FETCH, FETCH_START, REQUEST } = consumer.events;
    const alive = () => {
      this.#lastSignMs = performance.now();
    };
    consumer.on(HEARTBEAT, alive);
    consumer.on(FETCH, alive);
    // A fetch was refused, as by a broker that does not know the topic: the next one may be answered from another log of that name.
    consumer.on(REQUEST, ({ payload }) => {
      if (payload.apiName === "Metadata") assignment.suspect();
    });
    // Or nothing was asked for a while, so nothing was refused.
    const answeredMs = new Map<number, number>();
    consumer.on(FETCH, ({ payload }) => void answeredMs.set(payload.nodeId, performance.now()));
    consumer.on(FETCH_START, ({ payload }) => {
      if (performance.now() - (answeredMs.get(payload.nodeId) ?? 0) > UNASKED_MS) assignment.suspect();
    });
    consumer.on(CRASH, ({ payload }) => onFailure(kafkaError(payload.error, "read from Kafka")));
    consumer.on(GROUP_JOIN, ({ payload }) => {
      alive();
      assignment.joined(payload.memberId, partitionsOf(payload.memberAssignment));
      options.checkGroup().catch(onFailure);
    });
  }

  /** Whether the topic was there at the last look. */
  reads(topic: string): boolean {
    return this.#subscribed.has(topic);
  }

  /** Until stopped. Reports failures, never rejects. */
  async run(): Promise<void> {
    const { silenceMs = DEFAULT_SILENCE_MS } = this.#options;
    try {
      while (!this.#stopping) {
        // kafkajs alone would ask a hanging broker for three minutes.
        await withDeadline(this.#followTopics(), silenceMs, "follow the topics");
        this.#checkAlive(silenceMs);
        await withDeadline(this.#reviewLogs(), silenceMs, "look where the topics begin");
        await this.#stopped.wait(this.#options.topicPollMs);
      }
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  /** Resolves when no join is under way any more: kafkajs would finish it even after `disconnect`, and stay in the group. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#stopped.notify();
    this.#options.roomMade.notify();
    await this.#joining;
  }

  async #followTopics(): Promise<void> {
    const { admin, prefix, matches } = this.#options;
    const topics = new Set(await listTableTopics(admin, prefix, matches));
    for (const topic of this.#subscribed) if (!topics.has(topic)) throw deletedTopic(topic);
    const growing = topics.size > this.#listed && performance.now() - this.#joinedMs < JOIN_PAUSE_MS;
    this.#listed = topics.size;
    if (topics.size > this.#subscribed.size && !growing && !this.#stopping) await this.#subscribe(topics);
  }

  /** kafkajs cannot change a running subscription: leave the group and join it again, 0.1 to 0.2 s without a fetch. */
  async #subscribe(topics: Set<string>): Promise<void> {
    const { consumer, assignment, roomMade } = this.#options;
    if (this.#subscribed.size > 0) {
      assignment.clear();
      roomMade.notify();
      await consumer.stop();
    }
    await consumer.subscribe({ topics: [...topics].filter((topic) => !this.#subscribed.has(topic)), fromBeginning: true });
    this.#subscribed = topics;
    if (this.#stopping) return;
    this.#lastSignMs = performance.now();
    const joined = consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: (payload) => this.#receive(payload),
    });
    this.#joining = joined.catch(() => {});
    await joined;
    this.#joinedMs = performance.now();
  }

  /**
   * Where Kafka has deleted all that was left of a topic before it was fetched, kafkajs goes on behind it, and no message comes that would
   * show the gap.
   */
  async #reviewLogs(): Promise<void> {
    if (performance.now() - this.#reviewedMs < (this.#options.reviewMs ?? DEFAULT_REVIEW_MS)) return;
    this.#reviewedMs = performance.now();
    const { assignment, looks } = this.#options;
    const reading = assignment.list().filter(({ state }) => state === "reading");
    await Promise.all(
      reading.map(async (assigned) => {
        const { epoch, partition } = assigned;
        const { low } = await looks.of(partition);
        if (assignment.isCurrent(assigned, epoch) && assigned.nextOffset < low) assignment.hold(assigned, 0);
      }),
    );
  }

  #checkAlive(allowedMs: number): void {
    const silentMs = performance.now() - this.#lastSignMs;
    if (this.#subscribed.size === 0 || silentMs < allowedMs) return;
    throw new CascadeError({
      code: "KAFKA_UNAVAILABLE",
      verdict: "retry",
      message: `no answer from Kafka for ${Math.round(silentMs / 1_000)} s`,
      advice: "check the brokers; it is tried again for ever with a fresh connection",
    });
  }

  /** Queues a fetched batch, when there is room. Returning without `resolveOffset` makes kafkajs fetch it again. */
  async #receive({ batch, resolveOffset, heartbeat, isRunning, isStale }: EachBatchPayload): Promise<void> {
    const { assignment, queues, roomMade, onArrived, settleSchemas } = this.#options;
    const assigned = assignment.get(partitionKey(batch));
    if (assigned?.state !== "reading" || isStale()) return;
    const epoch = assigned.epoch;
    if (assigned.suspected && assignment.lookBack(assigned)) return;
    if (!this.#continues(assigned, batch)) return;
    const first = batch.firstOffset();
    const expected = assigned.applied === null ? assigned.nextOffset : assigned.nextOffset - 1n;
    const isExpected = first === null || BigInt(first) === expected || BigInt(first) === assigned.nextOffset;
    if (!isExpected && !(await this.#gapIsHarmless(assigned, BigInt(first)))) return;
    const fetched = fetchedEvents(batch, assigned.nextOffset);
    assigned.highWatermark = BigInt(batch.highWatermark);
    if (fetched?.schemasFirst) await settleSchemas?.();
    while (queues.full && isRunning() && !this.#stopping) {
      await roomMade.wait(HEARTBEAT_INTERVAL_MS);
      await heartbeat();
    }
    if (!isRunning() || this.#stopping || isStale() || !assignment.isCurrent(assigned, epoch)) return;
    resolveOffset(batch.lastOffset());
    assigned.nextOffset = BigInt(batch.lastOffset()) + 1n;
    assigned.fetched ??= assigned.applied;
    assigned.applied = null;
    if (!fetched) return;
    assigned.fetched = positionOf(fetched.events.at(-1)?.value ?? "");
    queues.add(assigned.key, fetched);
    onArrived();
  }

  /** False when the message before the first to be read was neither applied nor fetched: this is not the log that was read before. */
  #continues(assigned: AssignedPartition, { messages }: EachBatchPayload["batch"]): boolean {
    const { applied, nextOffset, partition } = assigned;
    if (applied === null) return true;
    const before = messages.find(({ offset }) => BigInt(offset) === nextOffset - 1n);
    if (!isAfter(before?.value?.toString("utf8") ?? null, applied)) return true;
    this.#options.assignment.reject(assigned, logReplaced(partition, nextOffset), 0);
    return false;
  }

  /**
   * The fetch did not begin where it should. Harmless when compaction or transaction markers left the gap; but when our offset is no
   * longer in the log kafkajs begins at the earliest without a word, and changes would be missing.
   */
  async #gapIsHarmless(assigned: AssignedPartition, first: bigint): Promise<boolean> {
    const { looks, assignment, onFailure } = this.#options;
    const { epoch, partition, nextOffset } = assigned;
    try {
      await startOffset(looks, partition, nextOffset);
      // The log ended before our offset a moment ago, and has grown past it since.
      if (first < nextOffset) throw logRestarted(partition, nextOffset);
      return assignment.isCurrent(assigned, epoch);
    } catch (error) {
      if (!assignment.isCurrent(assigned, epoch)) return false;
      // What has become of it is looked at at once.
      if (isLostLog(error)) assignment.reject(assigned, error as CascadeError, 0);
      else if (error instanceof CascadeError && error.verdict === "stop-table") assignment.reject(assigned, error);
      else onFailure(error);
      return false;
    }
  }
}

const partitionsOf = (assignment: Readonly<Record<string, readonly number[]>>): Partition[] =>
  Object.entries(assignment).flatMap(([topic, partitions]) => partitions.map((partition) => ({ topic, partition })));
