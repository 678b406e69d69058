import type { SourceMessage } from "@cascade/cdc/src/change-source.ts";
import type { RawEvent } from "@cascade/shard-router/src/event-consumer.ts";
import { decodeChangeEvent, withOwnRows } from "@cascade/shared/change-event";
import { describeError } from "@cascade/shared/errors";
import { eventEncoder } from "@cascade/shared/event-writer";
import { decodeSchemaMessage, encodeSchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, tableOfTopic } from "@cascade/shared/topic";
import type { OracleEngine } from "./engines.ts";
import type { History } from "./histories.ts";
import { historySql } from "./history-sql.ts";
import { type MainDb, openMainDb, TOPIC_PREFIX } from "./main-db.ts";
import { tableName } from "./names.ts";
import { OracleRouter, type Published, type Stop, type Topic, type UniqueColumn } from "./router.ts";
import type { OracleTable } from "./schemas.ts";

/** What has been run so far. */
export interface Figures {
  histories: number;
  transactions: number;
  events: number;
  /** By engine and code. */
  readonly stops: Map<string, number>;
}

/** From SQL on main-db to equal replicas, in this process. */
export class OracleLine implements AsyncDisposable {
  readonly figures: Figures = { histories: 0, transactions: 0, events: 0, stops: new Map() };
  readonly #main: MainDb;
  readonly #routers: readonly OracleRouter[];
  #running: Promise<void> = Promise.resolve();
  readonly #encode = eventEncoder(TOPIC_PREFIX, "oracle");

  private constructor(main: MainDb, routers: readonly OracleRouter[]) {
    this.#main = main;
    this.#routers = routers;
  }

  static async open(name: string, mode: "stream" | "poll", engines: readonly OracleEngine[]): Promise<OracleLine> {
    const main = await openMainDb(name, mode);
    return new OracleLine(
      main,
      engines.map((engine) => new OracleRouter(engine, name)),
    );
  }

  /** Rejects when a replica is different, or has stopped for a reason that its engine does not give. */
  run(history: History): Promise<void> {
    const running = this.#run(history);
    this.#running = running.catch(() => undefined);
    return running;
  }

  async #run(history: History): Promise<void> {
    const number = ++this.figures.histories;
    const sql = historySql(history, number);
    try {
      const committed = await this.#main.live(sql);
      const published = this.#publish(await this.#main.read());
      this.figures.transactions += committed;
      this.figures.events += published.topics.reduce((sum, { events }) => sum + events.length, 0);
      const tables = history.tables.map((table) => tableName(table.name, number));
      const uniques = history.tables.flatMap((table) => uniqueOf(table, number));
      const problems = await Promise.all(
        this.#routers.map(async (router) => {
          const stops = await router.apply(published, history, uniques);
          const stopped = new Set(stops.map(({ table }) => formatTableName(table)));
          const unexpected = stops.filter((stop) => !this.#isDocumented(router.engine, stop, published));
          const compared = tables.filter((table) => !stopped.has(formatTableName(table)));
          return [
            ...unexpected.map((stop) => stopText(router.engine, stop)),
            ...(await router.differences(this.#main.url, compared)),
          ];
        }),
      );
      if (problems.flat().length > 0) throw new Error(problems.flat().join("\n"));
    } catch (error) {
      for (const router of this.#routers) await router.renew();
      throw error;
    } finally {
      await this.#main.drop(sql);
    }
  }

  #isDocumented(engine: OracleEngine, { table, error }: Stop, published: Published): boolean {
    const topic = published.topics.find((found) => formatTableName(found.table) === formatTableName(table));
    const events = (topic?.events ?? []).flatMap(({ value }) => (value === null ? [] : [decodeChangeEvent(value)]));
    const schema = published.schemas.get(events[0]?.schemaId ?? "");
    if (schema === undefined || !engine.mayStop(error, { schema, events })) return false;
    const name = `${engine.name} ${error.code}`;
    this.figures.stops.set(name, (this.figures.stops.get(name) ?? 0) + 1);
    return true;
  }

  /** As cdc would for Kafka, and a router would read it there. */
  #publish(messages: readonly SourceMessage[]): Published {
    const schemas = new Map<string, TableSchema>();
    const topics = new Map<string, RawEvent[]>();
    for (const message of messages) {
      if (message.kind === "schema") {
        const { key, value } = encodeSchemaMessage(message.schema);
        const read = decodeSchemaMessage(key, value);
        if (read.kind === "schema") schemas.set(message.schema.id, read.schema);
      } else if (message.kind === "change") {
        const event = withOwnRows(message.event);
        const events = topics.get(event.table.topic) ?? [];
        topics.set(event.table.topic, events);
        events.push({ offset: BigInt(events.length), key: event.key, value: this.#encode(event, 1_795_402_676_163) });
      }
    }
    return { schemas, topics: [...topics].map(([topic, events]) => topicOf(topic, events)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running; // a time limit does not wait for it
    for (const router of this.#routers) await router[Symbol.asyncDispose]();
    await this.#main[Symbol.asyncDispose]();
  }
}

function uniqueOf({ name, unique, columns }: OracleTable, number: number): readonly UniqueColumn[] {
  const column = unique === null || unique.deferrable ? undefined : columns[unique.column];
  return column === undefined ? [] : [{ table: tableName(name, number), column: column.name }];
}

function topicOf(topic: string, events: readonly RawEvent[]): Topic {
  const table = tableOfTopic(TOPIC_PREFIX, topic);
  if (table === null) throw new Error(`topic ${topic} is of no table`);
  return { table, partition: { topic, partition: 0 }, events };
}

const stopText = ({ name }: OracleEngine, { table, error }: Stop): string =>
  `${name}: ${formatTableName(table)} stopped by ${error.code}: ${describeError(error)}; ${error.advice}`;
