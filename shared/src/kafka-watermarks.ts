import type { Admin } from "kafkajs";
import { kafkaError } from "./kafka-errors.ts";

/** The offsets a partition holds: from `low` up to, but not including, `high`. */
export interface Watermarks {
  readonly low: bigint;
  readonly high: bigint;
}

/** Of a topic's partitions, by number. */
export type TopicWatermarks = ReadonlyMap<number, Watermarks>;

interface Partition {
  readonly topic: string;
  readonly partition: number;
}

/** One look alone. */
export const watermarks = (admin: Admin, partition: Partition): Promise<Watermarks> => new WatermarkLooks(admin).of(partition);

/**
 * Looks of many at once: who asks while an answer is under way gets the next one, together with all others who do. A thousand partitions
 * whose start is looked for are three requests to Kafka. A look that fails fails for all whom it was for.
 */
export class WatermarkLooks {
  readonly #admin: Admin;
  #topics = new Set<string>();
  #next: Promise<ReadonlyMap<string, TopicWatermarks>> | null = null;
  #underWay: Promise<unknown> = Promise.resolve();

  constructor(admin: Admin) {
    this.#admin = admin;
  }

  /** Rejects with CascadeError, as when there is no such topic or partition, or Kafka is away. */
  async of({ topic, partition }: Partition): Promise<Watermarks> {
    const found = (await this.ofTopic(topic)).get(partition);
    if (found === undefined)
      throw kafkaError(new Error(`it has no partition ${partition}`), `read the offsets of topic ${topic}`);
    return found;
  }

  async ofTopic(topic: string): Promise<TopicWatermarks> {
    this.#topics.add(topic);
    this.#next ??= this.#lookAfter(this.#underWay);
    const found = (await this.#next).get(topic);
    if (found === undefined) throw kafkaError(new Error("the brokers told nothing of it"), `read the offsets of topic ${topic}`);
    return found;
  }

  async #lookAfter(before: Promise<unknown>): Promise<ReadonlyMap<string, TopicWatermarks>> {
    await before;
    const topics = [...this.#topics];
    this.#topics = new Set();
    this.#next = null;
    const look = this.#look(topics);
    this.#underWay = look.catch(() => {});
    return look;
  }

  async #look(topics: string[]): Promise<ReadonlyMap<string, TopicWatermarks>> {
    try {
      const found = await this.#admin.fetchOffsetsOfTopics(topics);
      return new Map(found.map(({ topic, partitions }) => [topic, numbered(partitions)]));
    } catch (error) {
      throw kafkaError(error, `read the offsets of ${topics.length === 1 ? `topic ${topics[0]}` : `${topics.length} topics`}`);
    }
  }
}

type Offsets = Awaited<ReturnType<Admin["fetchTopicOffsets"]>>;

const numbered = (offsets: Offsets): TopicWatermarks =>
  new Map(offsets.map(({ partition, low, high }) => [partition, { low: BigInt(low), high: BigInt(high) }]));
