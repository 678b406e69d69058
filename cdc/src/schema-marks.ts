import type { SchemaMessage, TableSchema } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";

/**
 * Which messages tell routers to read `<prefix>.schemas` first. A table that is renamed away and back has its first schema again, with the same
 * id: a router that knows it would apply the rows after the return before it has read of the renames, and the rows that the table was given
 * under the other name on top of them. So the next message of each partition of a topic carries a mark after each announcement of a table that
 * has had other names, or, where its rows are divided over partitions, other schemas: what came between may be in another partition alone. And
 * the first one of a life does, for nobody knows whether the marked one of the life before has come to Kafka.
 */
export class SchemaMarks {
  readonly #prefix: string;
  readonly #topics = new Map<number, Set<string>>();
  /** Every schema of each table, with over how many partitions its rows were divided. */
  readonly #schemas = new Map<number, Set<string>>();
  /** Topics, each with the partitions that have had their mark. */
  readonly #due = new Map<string, Set<number>>();

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** In the order of the announcements, those of earlier lives first. */
  announced(messages: Iterable<SchemaMessage>): void {
    for (const message of messages) {
      if (message.kind !== "schema") continue;
      const { schema } = message;
      const { partitions = 1 } = message;
      const topics = this.#topics.get(schema.oid) ?? new Set();
      this.#topics.set(schema.oid, topics.add(topicOf(this.#prefix, schema)));
      const hasOthers = this.#hasOthers(schema, partitions);
      if (topics.size > 1 || (partitions > 1 && hasOthers)) for (const topic of topics) this.#due.set(topic, new Set());
    }
  }

  /** Or the same one, divided otherwise: a router that does not know that takes a partition for all there are. */
  #hasOthers({ oid, id }: TableSchema, partitions: number): boolean {
    const ids = this.#schemas.get(oid) ?? new Set();
    this.#schemas.set(oid, ids.add(`${id} ${partitions}`));
    return ids.size > 1;
  }

  /** Whether the next message of the partition, of `count`, is to carry the mark: asked for each message, once. */
  take(topic: string, partition = 0, count = 1): boolean {
    if (this.#due.size === 0) return false;
    const marked = this.#due.get(topic);
    if (marked === undefined || marked.has(partition)) return false;
    marked.add(partition);
    if (marked.size === count) this.#due.delete(topic);
    return true;
  }
}
