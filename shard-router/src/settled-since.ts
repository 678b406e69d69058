import type { SchemaBook } from "./schema-book.ts";

/**
 * Makes sure that what is said of tables is known, once for many who ask: at a start each of thousands of partitions comes to its end, and
 * each asked Kafka where the topic of the schemas ends.
 */
export class SettledSince {
  readonly #schemas: Pick<SchemaBook, "settle">;
  /** When what was made sure of last was begun with. */
  #sinceMs = Number.NEGATIVE_INFINITY;

  constructor(schemas: Pick<SchemaBook, "settle">) {
    this.#schemas = schemas;
  }

  /** Resolves when all that was said before `ms` (of `performance.now()`) is known; null: before now. */
  async settle(ms: number | null): Promise<void> {
    if (ms !== null && ms < this.#sinceMs) return;
    const begunMs = performance.now();
    await this.#schemas.settle();
    this.#sinceMs = begunMs;
  }
}
