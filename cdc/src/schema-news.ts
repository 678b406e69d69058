import type { SchemaMessage } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";
import { Announced, schemaMessageOf } from "./announced.ts";
import type { Announcement } from "./event-publisher.ts";
import { Partitioning } from "./partitioning.ts";
import { SchemaMarks } from "./schema-marks.ts";

type SchemaAnnounced = Extract<SchemaMessage, { readonly kind: "schema" }>;

/** Over how many partitions a topic's messages are divided: it is known to be there. */
type PartitionsOf = (topic: string) => number;

/** What is said of tables in `<prefix>.schemas`, and what follows from it for their rows' messages. Pure. */
export class SchemaNews {
  readonly marks: SchemaMarks;
  readonly partitioning = new Partitioning();
  readonly #prefix: string;
  readonly #announced = new Announced();
  /** What was said last of the table of each topic. */
  readonly #said = new Map<string, SchemaAnnounced>();

  constructor(prefix: string) {
    this.#prefix = prefix;
    this.marks = new SchemaMarks(prefix);
  }

  /** What earlier lives have said, in its order. */
  recall(messages: readonly SchemaMessage[]): void {
    this.marks.announced(messages);
    for (const message of messages) this.#take(message);
  }

  /** Over how many partitions the messages of each topic were divided by what was said last. */
  *divided(): Iterable<readonly [topic: string, partitions: number]> {
    for (const [topic, { partitions = 1 }] of this.#said) yield [topic, partitions];
  }

  /** Those that say something new; they count as said. */
  news(announcements: readonly Announcement[]): readonly Announcement[] {
    return this.#announced.news(announcements);
  }

  messagesOf(news: readonly Announcement[], partitionsOf: PartitionsOf): readonly SchemaMessage[] {
    return this.#saying(
      news.map((item) => {
        const message = schemaMessageOf(item);
        return item.kind === "schema" && message.kind === "schema" ? divided(message, partitionsOf(item.topic)) : message;
      }),
    );
  }

  /** Of topics that were made anew since their tables were announced, and have other partitions: routers must know before they get rows. */
  redivided(topics: Iterable<string>, partitionsOf: PartitionsOf): readonly SchemaMessage[] {
    const messages: SchemaMessage[] = [];
    for (const topic of topics) {
      const said = this.#said.get(topic);
      if (said === undefined) continue;
      const partitions = partitionsOf(topic);
      if (partitions !== (said.partitions ?? 1)) messages.push(divided(said, partitions));
    }
    return this.#saying(messages);
  }

  #saying(messages: readonly SchemaMessage[]): readonly SchemaMessage[] {
    if (messages.length > 0) this.marks.announced(messages);
    for (const message of messages) this.#take(message);
    return messages;
  }

  #take(message: SchemaMessage): void {
    if (message.kind !== "schema") return;
    this.partitioning.learn(message.schema);
    this.#said.set(topicOf(this.#prefix, message.schema), message);
  }
}

/** One is not said. */
const divided = ({ partitions: _, ...message }: SchemaAnnounced, partitions: number): SchemaAnnounced =>
  partitions === 1 ? message : { ...message, partitions };
