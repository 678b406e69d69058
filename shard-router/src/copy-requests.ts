import { FewAtOnce } from "@cascade/shared/few-at-once";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Partition } from "./event-consumer.ts";
import type { Loss } from "./kafka/resume-offset.ts";
import type { ProgressBook } from "./progress-book.ts";
import type { SchemaBook } from "./schema-book.ts";
import type { TableBook } from "./table-book.ts";

/** A table of main-db's: the one with this OID, which may have another name by now. */
export interface AskedTable extends TableName {
  readonly oid: number;
}

export interface AskedCopy {
  readonly copy: string;
  readonly table: AskedTable;
}

/** Where copies of tables are asked for. */
export interface CopyRequests {
  /** Resolves when cdc will read them. Asked again under the same name it is the same request. */
  ask(copies: readonly AskedCopy[]): Promise<void>;
}

export interface AwaitedCopiesOptions {
  readonly schemas: SchemaBook;
  readonly tables: TableBook;
  readonly progress: ProgressBook;
  readonly requests: CopyRequests;
  /** As EventConsumer's. */
  readonly ends: (topic: string) => Promise<ReadonlyMap<number, bigint> | null>;
  readonly warn: (table: TableName, message: string) => void;
}

/** Sees to it that a table whose changes are no longer all in Kafka is copied anew, for this replica alone. */
export class AwaitedCopies {
  readonly #options: AwaitedCopiesOptions;
  readonly #asked = new Set<string>();
  /** Of partitions that have lost something: one that asks is seen by the next. */
  readonly #turns = new FewAtOnce(1);
  /** By the copy's name, where the partitions of the topic ended that had lost something, before it was asked for: its rows come after. */
  readonly #endsBefore = new Map<string, ReadonlyMap<number, bigint>>();
  /** Requests under way, by the copy's name: at the start there may be thousands of partitions, and each asks for what waits. */
  readonly #asking = new Map<string, Promise<void>>();

  constructor(options: AwaitedCopiesOptions) {
    this.#options = options;
  }

  /**
   * Kafka does not hold all that the replica needs of the partition. Resolves to where it goes on: everything up to the copy is passed
   * over from then on; null when nothing is known of the table. A table that was renamed since is copied too, for some of its changes were
   * in this topic.
   */
  async recover(partition: Partition, name: TableName, { low, remembered }: Loss): Promise<bigint | null> {
    const { schemas, tables, progress, ends, warn } = this.#options;
    await schemas.settle();
    const had = schemas.history.everNamed(name);
    if (had === null) return null;
    const wanted = had.filter(({ schema }) => tables.takes(schema));
    // Whoever has asked may have lost the partition meanwhile, and got it again: then the replica has gone on.
    const goneOn = (): bigint | null => {
      const nextOffset = progress.current(partition)?.nextOffset ?? 0n;
      return nextOffset === (remembered ?? 0n) ? null : nextOffset;
    };
    if (wanted.length === 0 && goneOn() === null)
      await tables.passOver({ partition, from: progress.current(partition), nextOffset: low });
    for (const { schema } of wanted) {
      if (goneOn() !== null) break;
      const from = progress.current(partition);
      // The offset moves with the last of them: until then this is repeated after a crash.
      const nextOffset = schema === wanted.at(-1)?.schema ? low : (from?.nextOffset ?? 0n);
      const isDivided = schemas.history.partitionsOf(name) > 1;
      const copy = await this.#turns.run(async () => {
        if (isDivided && (await this.#isAskedFor(schema, partition, low))) {
          await tables.passOver({ partition, from, nextOffset });
          return null;
        }
        const before = isDivided ? await ends(partition.topic) : null;
        const asked = await tables.await(schema, { partition, from, nextOffset });
        if (before !== null) this.#endsBefore.set(asked, before);
        return asked;
      });
      if (copy === null) continue;
      warn(
        schema,
        `${formatTableName(schema)}: its changes are no longer all in Kafka; this replica asks for a copy, and passes over what comes before it`,
      );
      await this.#ask([{ copy, table: schema }]);
    }
    return goneOn() ?? low;
  }

  /** Another partition of the topic has asked for a copy, and this one will hold all of it: of a topic that is lost each has lost something. */
  async #isAskedFor({ oid }: AskedTable, { partition }: Partition, low: bigint): Promise<boolean> {
    const awaited = (await this.#options.tables.awaited()).find(({ table }) => table.oid === oid);
    const end = this.#endsBefore.get(awaited?.copy ?? "")?.get(partition);
    return end !== undefined && low <= end;
  }

  /**
   * Asks for the copies that tables wait for and that this life has not asked for: nobody may have, or whoever did may have ended before the
   * request got out. Of all tables, for who has made one wait need not have the topic that the copy comes in.
   */
  async askAgain(): Promise<void> {
    await this.#ask(await this.#options.tables.awaited());
  }

  async #ask(copies: readonly AskedCopy[]): Promise<void> {
    const wanted = copies.filter(({ copy }) => !this.#asked.has(copy));
    const fresh = wanted.filter(({ copy }) => !this.#asking.has(copy));
    if (fresh.length > 0) {
      const asking = this.#send(fresh).finally(() => {
        for (const { copy } of fresh) this.#asking.delete(copy);
      });
      for (const { copy } of fresh) this.#asking.set(copy, asking);
    }
    await Promise.all(new Set(wanted.map(({ copy }) => this.#asking.get(copy))));
  }

  async #send(copies: readonly AskedCopy[]): Promise<void> {
    await this.#options.requests.ask(copies);
    for (const { copy } of copies) this.#asked.add(copy);
  }
}
