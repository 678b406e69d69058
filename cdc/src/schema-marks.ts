import type { SchemaMessage } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";

/**
 * Which messages tell routers to read `<prefix>.schemas` first. A table that is renamed away and back has its first schema again, with the same
 * id: a router that knows it would apply the rows after the return before it has read of the renames, and the rows that the table was given
 * under the other name on top of them. So the next message of a topic carries a mark after each announcement of a table that has had other names;
 * and the first one of a life, for nobody knows whether the marked one of the life before has come to Kafka.
 */
export class SchemaMarks {
  readonly #prefix: string;
  readonly #topics = new Map<number, Set<string>>();
  readonly #due = new Set<string>();

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** In the order of the announcements, those of earlier lives first. */
  announced(messages: Iterable<SchemaMessage>): void {
    for (const message of messages) {
      if (message.kind !== "schema") continue;
      const { schema } = message;
      const topics = this.#topics.get(schema.oid) ?? new Set();
      this.#topics.set(schema.oid, topics.add(topicOf(this.#prefix, schema)));
      if (topics.size > 1) for (const topic of topics) this.#due.add(topic);
    }
  }

  /** Whether the next message of the topic is to carry the mark: asked for each message, once. */
  take(topic: string): boolean {
    return this.#due.size > 0 && this.#due.delete(topic);
  }
}
