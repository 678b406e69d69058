import type { Announcement, EventPublisher } from "@cascade/cdc/src/event-publisher.ts";
import { placeEvents } from "@cascade/cdc/src/kafka/placing.ts";
import { SchemaNews } from "@cascade/cdc/src/schema-news.ts";
import { type ChangeEvent, SCHEMAS_FIRST_HEADER, withOwnRows } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { eventEncoder } from "@cascade/shared/event-writer";
import { encodeSchemaNews, type SchemaMessage } from "@cascade/shared/table-schema";
import { schemasTopic } from "@cascade/shared/topic";
import type { LogMessage, SimulatedKafka } from "./kafka.ts";
import type { Network } from "./network.ts";
import { PREFIX } from "./slot-source.ts";

/**
 * Publishes as KafkaPublisher does: what fails may be written, in part or whole, now or later; nothing follows a failure. Schemas are written
 * as a whole, and by the newest cdc alone (`FencedProducer`).
 */
export class SimulatedPublisher implements EventPublisher {
  readonly #kafka: SimulatedKafka;
  readonly #network: Network;
  readonly #encode = eventEncoder(PREFIX, "app");
  readonly #news = new SchemaNews(PREFIX);
  readonly #epoch: number;
  readonly #partitions: number;
  #failure: unknown = null;

  private constructor(kafka: SimulatedKafka, network: Network, epoch: number, partitions: number) {
    this.#kafka = kafka;
    this.#network = network;
    this.#epoch = epoch;
    this.#partitions = partitions;
  }

  static async open(kafka: SimulatedKafka, network: Network, partitions: number): Promise<SimulatedPublisher> {
    const epoch = await network.call("kafka", () => kafka.fence(schemasTopic(PREFIX)));
    return new SimulatedPublisher(kafka, network, epoch, partitions);
  }

  async check(): Promise<void> {
    await this.#network.call("kafka", () => undefined);
  }

  hasPublished(): Promise<boolean> {
    return this.#network.call("kafka", () => this.#kafka.end(schemasTopic(PREFIX)) > 0);
  }

  recall(announced: Iterable<SchemaMessage>): void {
    this.#news.recall([...announced]);
  }

  async announce(announcements: readonly Announcement[]): Promise<void> {
    const news = this.#news.news(announcements);
    if (news.length === 0) return;
    const messages = this.#news.messagesOf(news, () => this.#partitions).map(encodeSchemaNews);
    const topics = news.flatMap((item) => (item.kind === "schema" ? [item.topic] : []));
    await this.#sending(() => {
      for (const topic of topics) this.#kafka.create(topic, this.#partitions);
      this.#kafka.checkFence(schemasTopic(PREFIX), this.#epoch);
      this.#kafka.append(schemasTopic(PREFIX), messages);
    });
  }

  /** Nobody's rows depend on it. */
  async heartbeat(): Promise<void> {}

  async publish(events: readonly ChangeEvent[]): Promise<number> {
    const marked = new Set<ChangeEvent>();
    const placed = placeEvents(events, {
      countOf: () => this.#partitions,
      partitioning: this.#news.partitioning,
      bytesOf: (event, partition, count) => {
        if (this.#news.marks.take(event.table.topic, partition, count)) marked.add(event);
        return 0;
      },
    });
    const messageOf = (event: ChangeEvent): LogMessage => ({
      key: withOwnRows(event).key,
      value: this.#encode(event, 0),
      ...(marked.has(event) ? { headers: { [SCHEMAS_FIRST_HEADER]: "1" } } : {}),
    });
    await this.#sending(() => {
      let isPart = false;
      for (const { topic, partition, sized } of placed) {
        // Each partition of a request is written by itself, and of a long list the beginning may be.
        const count = this.#network.strikes("part-written", 0.02) ? Math.floor(sized.length / 2) : sized.length;
        isPart ||= count < sized.length;
        const messages = sized.slice(0, count).map(({ message }) => messageOf(message));
        this.#kafka.append(topic, messages, partition);
      }
      if (isPart) throw partWritten();
    });
    return events.length;
  }

  async #sending(work: () => void): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    try {
      await this.#network.call("kafka", work);
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

export const partWritten = (): CascadeError =>
  new CascadeError({
    code: "KAFKA_UNAVAILABLE",
    verdict: "retry",
    message: "a part of the request was written",
    advice: "nothing to do: it is simulated",
  });
