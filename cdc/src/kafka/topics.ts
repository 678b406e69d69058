import { CascadeError } from "@cascade/shared/errors";
import { isKafkaError, kafkaError } from "@cascade/shared/kafka-errors";
import type { KafkaLogger } from "@cascade/shared/kafka-log";
import { type Admin, type ConfigEntries, ConfigResourceTypes, ConfigSource, type ITopicConfig } from "kafkajs";

/** What the broker says of a topic, as far as publishing depends on it. */
export interface TopicLimits {
  /** `max.message.bytes`: the largest record batch, compressed if compressed. */
  readonly maxMessageBytes: number;
  /** Over how many of its partitions its messages are divided: it may have got more since. */
  readonly partitions: number;
}

export interface TopicSettings {
  /** The schemas', the signals'. */
  readonly compactedTopics: readonly string[];
  /** Whether it is a table's: all others have one partition. */
  isTableTopic(topic: string): boolean;
  /** Of a table's topic that is made. */
  readonly partitions: number;
  /** -1: the broker's default. */
  readonly replicationFactor: number;
  readonly logger: KafkaLogger;
}

/** The broker closes a connection that sends a larger request, without a word; `socket.request.max.bytes`. */
const DEFAULT_REQUEST_BYTES = 104_857_600;
/** Kafka's own default of `max.message.bytes`. */
const KAFKA_MAX_MESSAGE_BYTES = 1_048_588;
const INITIAL_MAX_MESSAGE_BYTES = 10 * 1024 * 1024;
/** Of a hundred topics, on brokers that are busy making thousands. */
const VISIBLE_WITHIN_MS = 30_000;
const VISIBLE_PAUSE_MS = 20;

/** The topics of this pipeline: made before their first message, used as they are when they exist, but checked. */
export class Topics {
  readonly #admin: Admin;
  readonly #settings: TopicSettings;
  readonly #known = new Map<string, TopicLimits>();
  /** Over how many partitions the messages of tables' topics were divided until now. */
  readonly #divided = new Map<string, number>();

  constructor(admin: Admin, settings: TopicSettings) {
    this.#admin = admin;
    this.#settings = settings;
  }

  /** Over so many partitions the topic's messages were divided by an earlier life: its keys are to stay where they are. */
  recall(topic: string, partitions: number): void {
    this.#divided.set(topic, partitions);
  }

  /** Limits of a topic that `ensure` has seen. */
  limits(topic: string): TopicLimits {
    const limits = this.#known.get(topic);
    if (!limits) throw new Error(`topic ${topic} was not ensured`);
    return limits;
  }

  /**
   * Makes those that are missing and checks all that are new to this instance. Throws CascadeError (verdict refuse) for one that would
   * lose changes or put them out of order.
   */
  async ensure(topics: Iterable<string>): Promise<void> {
    const unknown = [...new Set(topics)].filter((topic) => !this.#known.has(topic));
    if (unknown.length === 0) return;
    try {
      const existing = new Set(await this.#admin.listTopics());
      const missing = unknown.filter((topic) => !existing.has(topic));
      // Resolves to false when somebody else was faster with all of them: checked below like any other.
      if (missing.length > 0) await this.#create(missing);
      await this.#checkOnceVisible(unknown);
    } catch (error) {
      throw kafkaError(error, `prepare ${unknown.length === 1 ? `topic ${unknown[0]}` : `${unknown.length} topics`}`);
    }
  }

  /** Asks for what every user may see. */
  async check(): Promise<void> {
    try {
      await this.#admin.listTopics();
    } catch (error) {
      throw kafkaError(error, "reach the brokers");
    }
  }

  /** Where partition 0 of a topic ends; 0 when there is no such topic. */
  async end(topic: string): Promise<bigint> {
    try {
      if (!(await this.#admin.listTopics()).includes(topic)) return 0n;
      const offsets = await this.#admin.fetchTopicOffsets(topic);
      return BigInt(offsets.find(({ partition }) => partition === 0)?.high ?? 0);
    } catch (error) {
      throw kafkaError(error, `read the offsets of topic ${topic}`);
    }
  }

  async #create(missing: readonly string[]): Promise<void> {
    try {
      await this.#createAll(missing);
    } catch (error) {
      if (!isKafkaError(error, "TOPIC_ALREADY_EXISTS")) throw error;
      // Some of them were made meanwhile, and kafkajs does not tell which are still missing.
      for (const topic of missing) await this.#createAll([topic]);
    }
  }

  async #createAll(topics: readonly string[]): Promise<void> {
    // Not waiting for leaders: kafkajs's wait fails on a broker that has not heard of the topic yet.
    await this.#admin.createTopics({ topics: topics.map((topic) => this.#newTopic(topic)), waitForLeaders: false });
  }

  /** Brokers hear of a new topic a moment after the controller has made it. */
  async #checkOnceVisible(topics: readonly string[]): Promise<void> {
    const giveUpAt = performance.now() + VISIBLE_WITHIN_MS;
    for (;;) {
      try {
        return await this.#check(topics);
      } catch (error) {
        if (!isKafkaError(error, "UNKNOWN_TOPIC_OR_PARTITION", "LEADER_NOT_AVAILABLE") || performance.now() > giveUpAt)
          throw error;
        await Bun.sleep(VISIBLE_PAUSE_MS);
      }
    }
  }

  #newTopic(topic: string): ITopicConfig {
    const { partitions, replicationFactor } = this.#settings;
    const config = this.#isCompacted(topic) ? COMPACTED_TOPIC : TABLE_TOPIC;
    return {
      topic,
      numPartitions: this.#settings.isTableTopic(topic) ? partitions : 1,
      replicationFactor,
      configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
    };
  }

  #isCompacted(topic: string): boolean {
    return this.#settings.compactedTopics.includes(topic);
  }

  async #check(topics: readonly string[]): Promise<void> {
    const { topics: metadata } = await this.#admin.fetchTopicMetadata({ topics: [...topics] });
    const counts = new Map<string, number>();
    for (const { name, partitions } of metadata) counts.set(name, await this.#dividedOver(name, partitions.length));
    for (const [topic, config] of await this.#configs(topics)) {
      checkCompression(topic, config);
      await this.#checkCleanup(topic, config);
      this.#known.set(topic, { maxMessageBytes: maxMessageBytes(config), partitions: counts.get(topic) ?? 1 });
    }
  }

  /**
   * Over how many partitions of a topic that has `found` its messages are divided: the changes of a key must stay in the partition that they are
   * in, or routers would apply them in any order.
   */
  async #dividedOver(topic: string, found: number): Promise<number> {
    if (!this.#settings.isTableTopic(topic)) return 1;
    // Only this program writes to it, and it has ever told of more than one.
    const before = this.#divided.get(topic) ?? 1;
    if (found === before) return found;
    if (await this.#isEmpty(topic)) return found;
    if (found < before) throw partitionsLost(topic, found, before);
    this.#settings.logger.warn(
      { topic, partitions: found, used: before },
      `the topic was given ${found} partitions, and its changes stay in the first ${before}: a key's changes would be in two, in no order`,
    );
    return before;
  }

  async #isEmpty(topic: string): Promise<boolean> {
    return (await this.#admin.fetchTopicOffsets(topic)).every(({ high }) => BigInt(high) === 0n);
  }

  async #checkCleanup(topic: string, config: TopicConfig): Promise<void> {
    const policy = config.get("cleanup.policy")?.value ?? "delete";
    const compacted = policy.split(",").some((part) => part.trim() === "compact");
    if (!this.#isCompacted(topic)) {
      if (compacted) throw compactedTableTopic(topic);
    } else if (policy.trim() !== "compact") {
      // Its age would delete schemas that rows still name, and the state of snapshots.
      await this.#alter(topic, { "cleanup.policy": "compact" });
      this.#settings.logger.warn({ topic, was: policy }, "the topic was not compacted: cleanup.policy is now compact");
    }
  }

  /** Raises `max.message.bytes` of a topic so that a record batch of `bytes` fits. */
  async raiseLimit(topic: string, bytes: number): Promise<void> {
    try {
      const now = maxMessageBytes(await this.#config(topic));
      if (now < bytes) await this.#alter(topic, { "max.message.bytes": String(bytes) });
      this.#known.set(topic, { ...this.limits(topic), maxMessageBytes: Math.max(now, bytes) });
    } catch (error) {
      throw kafkaError(error, `raise max.message.bytes of topic ${topic} to ${bytes}`);
    }
  }

  /** AlterConfigs replaces a topic's whole set of overrides, and kafkajs has no incremental one: send the others along. */
  async #alter(topic: string, changes: Readonly<Record<string, string>>): Promise<void> {
    const merged = new Map<string, string>();
    for (const [name, { value, overridden }] of await this.#config(topic)) if (overridden) merged.set(name, value);
    for (const [name, value] of Object.entries(changes)) merged.set(name, value);
    const configEntries = [...merged].map(([name, value]) => ({ name, value }));
    await this.#admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries }],
    });
  }

  /** The largest request the brokers take. Their default when this user may not ask. */
  async maxRequestBytes(): Promise<number> {
    try {
      const { brokers, controller } = await this.#admin.describeCluster();
      const name = String(controller ?? brokers[0]?.nodeId ?? 1);
      const { resources } = await this.#admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.BROKER, name, configNames: ["socket.request.max.bytes"] }],
      });
      return Number(resources[0]?.configEntries[0]?.configValue ?? DEFAULT_REQUEST_BYTES);
    } catch (error) {
      if (isKafkaError(error, "CLUSTER_AUTHORIZATION_FAILED")) return DEFAULT_REQUEST_BYTES;
      throw kafkaError(error, "read the brokers' socket.request.max.bytes");
    }
  }

  async #config(topic: string): Promise<TopicConfig> {
    return (await this.#configs([topic])).get(topic) ?? new Map();
  }

  async #configs(topics: readonly string[]): Promise<ReadonlyMap<string, TopicConfig>> {
    const { resources } = await this.#admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
    });
    return new Map(resources.map(({ resourceName, configEntries }) => [resourceName, topicConfig(configEntries)]));
  }
}

/** By setting; `overridden`: set on the topic itself rather than on the broker. */
type TopicConfig = ReadonlyMap<string, { readonly value: string; readonly overridden: boolean }>;

const topicConfig = (entries: readonly ConfigEntries[]): TopicConfig =>
  new Map(
    entries.map((entry) => [
      entry.configName,
      { value: entry.configValue, overridden: entry.configSource === ConfigSource.TOPIC_CONFIG },
    ]),
  );

const maxMessageBytes = (config: TopicConfig): number =>
  Number(config.get("max.message.bytes")?.value ?? KAFKA_MAX_MESSAGE_BYTES);

/**
 * Unlimited retention: the topic is what a new replica is filled from, so a finite one would leave later replicas incomplete (decision
 * 0006). An operator who wants another sets it on the topic, which is then left alone.
 */
const TABLE_TOPIC = {
  "cleanup.policy": "delete",
  "retention.ms": "-1",
  "retention.bytes": "-1",
  "compression.type": "producer",
  "message.timestamp.type": "CreateTime",
  "max.message.bytes": String(INITIAL_MAX_MESSAGE_BYTES),
};

/**
 * Read whole at every start, and the slot's record is written every second under load: what is overwritten, and the markers of
 * transactions, must go within hours. Kafka's own settings keep them for weeks.
 */
const COMPACTED_TOPIC = {
  "cleanup.policy": "compact",
  "segment.ms": "3600000",
  "segment.bytes": String(64 * 1024 * 1024),
  "min.cleanable.dirty.ratio": "0.1",
  "delete.retention.ms": "3600000",
  "compression.type": "producer",
  "message.timestamp.type": "CreateTime",
  "max.message.bytes": String(INITIAL_MAX_MESSAGE_BYTES),
};

const READABLE_COMPRESSION: ReadonlySet<string> = new Set(["producer", "uncompressed", "gzip", "zstd"]);

function partitionsLost(topic: string, found: number, before: number): CascadeError {
  return new CascadeError({
    code: "TOPIC_PARTITIONS",
    verdict: "refuse",
    message: `topic ${topic} has ${found} partitions, and its table's changes were divided over ${before}: a key's changes would lose their order`,
    advice: "delete the topic so that cdc creates it anew, and every replica is filled again; or exclude the table (CDC_TABLES)",
  });
}

/** The broker would compress again, in a form that routers cannot read. */
function checkCompression(topic: string, config: TopicConfig): void {
  const found = config.get("compression.type")?.value ?? "producer";
  if (READABLE_COMPRESSION.has(found)) return;
  throw new CascadeError({
    code: "TOPIC_COMPRESSION",
    verdict: "refuse",
    message: `topic ${topic} has compression.type ${found}, which routers cannot read`,
    advice: `kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config compression.type=producer`,
  });
}

function compactedTableTopic(topic: string): CascadeError {
  return new CascadeError({
    code: "TOPIC_COMPACTED",
    verdict: "refuse",
    message: `topic ${topic} is compacted: Kafka would remove changes that a replica has not applied yet`,
    advice: `kafka-configs.sh --alter --entity-type topics --entity-name ${topic} --add-config cleanup.policy=delete`,
  });
}
