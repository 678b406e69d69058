import { compareReplica, isEqual } from "@cascade/local/canonical-state.ts";
import { STOP } from "@cascade/shard-router/src/dead-letters.ts";
import type { EventBatch, EventConsumer, Partition, RawEvent } from "@cascade/shard-router/src/event-consumer.ts";
import { pump } from "@cascade/shard-router/src/pipeline.ts";
import { ProgressBook } from "@cascade/shard-router/src/progress-book.ts";
import type { Replica, TableChange } from "@cascade/shard-router/src/replica.ts";
import { parseReplicaUrl } from "@cascade/shard-router/src/replicas/open-replica.ts";
import { SchemaHistory } from "@cascade/shard-router/src/schema-history.ts";
import { TableBook } from "@cascade/shard-router/src/table-book.ts";
import { turn } from "@cascade/shard-router/src/turn.ts";
import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { quoteTableName, type TableName } from "@cascade/shared/topic";
import type { EmptyDatabase, OracleEngine } from "./engines.ts";
import type { History } from "./histories.ts";

/** What cdc has published of one history. */
export interface Published {
  readonly schemas: ReadonlyMap<string, TableSchema>;
  readonly topics: readonly Topic[];
}

export interface Topic {
  readonly table: TableName;
  readonly partition: Partition;
  readonly events: readonly RawEvent[];
}

/** A column with a unique index that holds at every moment. */
export interface UniqueColumn {
  readonly table: TableName;
  readonly column: string;
}

export interface Stop {
  readonly table: TableName;
  readonly error: CascadeError;
}

/** A database is used for so many histories; then the next ones get an empty one. */
const HISTORIES_PER_DATABASE = 40;

/** One engine's replica with the router's own line before it: all but Kafka is real. */
export class OracleRouter implements AsyncDisposable {
  readonly engine: OracleEngine;
  readonly #name: string;
  #databases = 0;
  #open: { readonly database: EmptyDatabase; readonly replica: Replica; histories: number } | null = null;

  constructor(engine: OracleEngine, name: string) {
    this.engine = engine;
    this.#name = name;
  }

  /** Applies everything, and resolves to the tables that stopped. Rejects with what would end a router's life. */
  async apply(published: Published, history: History, uniques: readonly UniqueColumn[]): Promise<readonly Stop[]> {
    if (this.#open !== null && this.#open.histories >= HISTORIES_PER_DATABASE) await this.renew();
    this.#open ??= await this.#openEmpty();
    this.#open.histories++;
    const { replica, database } = this.#open;
    const stops: Stop[] = [];
    const progress = new ProgressBook(replica);
    const known = new SchemaHistory();
    const tables = new TableBook({
      replica: {
        ...replica,
        change: async (changes, advance) => {
          await replica.change(changes, advance);
          // Values that move between rows then meet the index, as they would in a replica that people read from.
          for (const { table, column } of uniques.filter((unique) => changes.some((change) => makes(change, unique.table))))
            await this.engine.makeUnique?.(database.url, table, column);
        },
      },
      policy: "apply",
      prefix: "oracle",
      history: known,
      matches: () => true,
      ends: async () => null,
      moved: (advance) => progress.moved(advance),
      changed: () => undefined,
    });
    const schemas = {
      history: known,
      settle: async () => undefined,
      known: () => undefined,
      get: async (id: string) => schemaOf(published, id),
      [Symbol.asyncDispose]: async () => undefined,
    };
    const held = new Set<string>();
    await pump(
      {
        consumer: consumerOf(published.topics, history, { held, resume: (partition) => progress.resume(partition) }),
        replica,
        received: () => undefined,
        poison: STOP,
        traced: (_batch, work) => work(),
        turn: (batch) => turn(batch, { replicaName: this.engine.name, dialect: replica.dialect, schemas, tables, progress }),
        atEnd: async () => undefined,
        applied: (_batch, step) => progress.moved(step.advance),
        hold: (batch, error) => {
          if (!(error instanceof CascadeError) || error.verdict !== "stop-table") throw error;
          held.add(batch.partition.topic);
          stops.push({ table: batch.table, error });
        },
      },
      new AbortController().signal,
    );
    return stops;
  }

  /** What is different, for people; a text for each table. */
  async differences(mainUrl: string, tables: readonly TableName[]): Promise<readonly string[]> {
    const url = this.#open?.database.url;
    if (url === undefined || tables.length === 0) return [];
    const compared = await compareReplica(mainUrl, url, tables.map(quoteTableName).join(","));
    if (compared.length !== tables.length) throw new Error(`${compared.length} of ${tables.length} tables were compared`);
    return compared.filter((table) => !isEqual(table)).map((table) => `${this.engine.name}: ${JSON.stringify(table)}`);
  }

  /** The next history gets an empty database. */
  async renew(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.replica[Symbol.asyncDispose]();
    await open?.database.drop();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.renew();
  }

  async #openEmpty() {
    const database = await this.engine.empty(`${this.#name}_${++this.#databases}`);
    return { database, replica: await parseReplicaUrl(database.url).open(), histories: 0 };
  }
}

function schemaOf({ schemas }: Published, id: string): TableSchema {
  const schema = schemas.get(id);
  if (schema === undefined) throw new Error(`an event names schema ${id}, which was not published before it`);
  return schema;
}

const makes = (change: TableChange, name: TableName): boolean => change.kind === "create" && isOf(name, change.schema);

const isOf = (name: TableName, { schema, table }: TableSchema): boolean => name.schema === schema && name.table === table;

interface Hooks {
  readonly held: ReadonlySet<string>;
  resume(partition: Partition): Promise<bigint | null>;
}

/** Batches of any size, table after table in turns; some of the events come again, as they do after a rebalance. */
function consumerOf(topics: readonly Topic[], { batchSizes, replays }: History, { held, resume }: Hooks): EventConsumer {
  async function* batches(): AsyncGenerator<EventBatch> {
    const at = new Map(topics.map(({ partition }) => [partition.topic, 0]));
    for (const { partition } of topics) await resume(partition);
    for (let turnNumber = 0; ; turnNumber++) {
      const waiting = topics.filter(
        ({ partition: { topic }, events }) => !held.has(topic) && (at.get(topic) ?? 0) < events.length,
      );
      const topic = waiting[turnNumber % Math.max(1, waiting.length)];
      if (topic === undefined) return;
      const next = at.get(topic.partition.topic) ?? 0;
      const replayed = Math.min(next, replays[turnNumber % replays.length] ?? 0);
      if (replayed > 0) await resume(topic.partition);
      const end = Math.min(topic.events.length, next + (batchSizes[turnNumber % batchSizes.length] ?? 1));
      at.set(topic.partition.topic, end);
      yield batchOf(topic, next - replayed, end);
    }
  }
  return {
    batches,
    confirm: () => undefined,
    hold: () => undefined,
    defer: () => undefined,
    lookAtEnd: () => undefined,
    ends: async () => null,
    assigned: () => topics.map(({ partition }) => partition),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

const batchOf = ({ table, partition, events }: Topic, from: number, to: number): EventBatch => ({
  table,
  partition,
  events: events.slice(from, to),
  nextOffset: BigInt(to),
  bytes: 0,
  lagEvents: BigInt(events.length - to),
  traceParents: [],
});
