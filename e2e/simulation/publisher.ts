import { Announced, schemaMessageOf } from "@cascade/cdc/src/announced.ts";
import type { Announcement, EventPublisher } from "@cascade/cdc/src/event-publisher.ts";
import { SchemaMarks } from "@cascade/cdc/src/schema-marks.ts";
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
  readonly #announced = new Announced();
  readonly #marks = new SchemaMarks(PREFIX);
  readonly #epoch: number;
  #failure: unknown = null;

  private constructor(kafka: SimulatedKafka, network: Network, epoch: number) {
    this.#kafka = kafka;
    this.#network = network;
    this.#epoch = epoch;
  }

  static async open(kafka: SimulatedKafka, network: Network): Promise<SimulatedPublisher> {
    return new SimulatedPublisher(kafka, network, await network.call("kafka", () => kafka.fence(schemasTopic(PREFIX))));
  }

  async check(): Promise<void> {
    await this.#network.call("kafka", () => undefined);
  }

  hasPublished(): Promise<boolean> {
    return this.#network.call("kafka", () => this.#kafka.end(schemasTopic(PREFIX)) > 0);
  }

  recall(announced: Iterable<SchemaMessage>): void {
    this.#marks.announced(announced);
  }

  async announce(announcements: readonly Announcement[]): Promise<void> {
    const news = this.#announced.news(announcements);
    if (news.length === 0) return;
    const said = news.map(schemaMessageOf);
    this.#marks.announced(said);
    const topics = news.flatMap((item) => (item.kind === "schema" ? [item.topic] : []));
    const messages = said.map(encodeSchemaNews);
    await this.#sending(() => {
      for (const topic of topics) this.#kafka.create(topic);
      this.#kafka.checkFence(schemasTopic(PREFIX), this.#epoch);
      this.#kafka.append(schemasTopic(PREFIX), messages);
    });
  }

  /** Nobody's rows depend on it. */
  async heartbeat(): Promise<void> {}

  async publish(events: readonly ChangeEvent[]): Promise<number> {
    const byTopic = new Map<string, LogMessage[]>();
    for (const event of events) {
      const { topic } = event.table;
      const headers = this.#marks.take(topic) ? { headers: { [SCHEMAS_FIRST_HEADER]: "1" } } : {};
      const message = { key: withOwnRows(event).key, value: this.#encode(event, 0), ...headers };
      const messages = byTopic.get(topic);
      if (messages) messages.push(message);
      else byTopic.set(topic, [message]);
    }
    await this.#sending(() => {
      let isPart = false;
      for (const [topic, list] of byTopic) {
        // Each topic of a request is written by itself, and of a long list the beginning may be.
        const count = this.#network.strikes("part-written", 0.02) ? Math.floor(list.length / 2) : list.length;
        isPart ||= count < list.length;
        this.#kafka.append(topic, list.slice(0, count));
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
