import type { SchemaBook } from "@cascade/shard-router/src/schema-book.ts";
import { SchemaHistory } from "@cascade/shard-router/src/schema-history.ts";
import { CascadeError } from "@cascade/shared/errors";
import { Signal } from "@cascade/shared/signal";
import { decodeSchemaMessage, type SchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import { schemasTopic, type TableName } from "@cascade/shared/topic";
import type { LogMessage, SimulatedKafka } from "./kafka.ts";
import type { Network } from "./network.ts";
import { PREFIX } from "./slot-source.ts";

const TOPIC = schemasTopic(PREFIX);

/** Every message of `<prefix>.schemas`, for cdc. */
export async function readSchemaMessages(kafka: SimulatedKafka, network: Network): Promise<readonly SchemaMessage[]> {
  return (await network.call("kafka", () => kafka.read(TOPIC, 0))).map(decoded);
}

const decoded = ({ key, value }: LogMessage): SchemaMessage => decodeSchemaMessage(key ?? "", value ?? "");

/** `<prefix>.schemas` as a router reads it: beside the rows, and a while behind. */
export class SchemaReader implements SchemaBook {
  readonly history = new SchemaHistory();
  readonly #kafka: SimulatedKafka;
  readonly #network: Network;
  readonly #onNews: (names: readonly TableName[]) => void;
  readonly #schemas = new Map<string, TableSchema>();
  readonly #moved = new Signal();
  readonly #unfollow: () => void;
  #read = 0;

  constructor(kafka: SimulatedKafka, network: Network, onNews: (names: readonly TableName[]) => void) {
    this.#kafka = kafka;
    this.#network = network;
    this.#onNews = onNews;
    this.#unfollow = kafka.follow(TOPIC, () => this.#learn(kafka.end(TOPIC)));
  }

  #learn(end: number): void {
    for (const message of this.#kafka.read(TOPIC, this.#read, end - this.#read)) {
      this.#read++;
      const news = decoded(message);
      if (news.kind === "schema") this.#schemas.set(news.schema.id, news.schema);
      this.#onNews(this.history.learn(news));
    }
    this.#moved.notify();
  }

  known(id: string): TableSchema | undefined {
    return this.#schemas.get(id);
  }

  async get(id: string): Promise<TableSchema> {
    if (!this.#schemas.has(id)) await this.settle();
    const schema = this.#schemas.get(id);
    if (schema !== undefined) return schema;
    throw new CascadeError({
      code: "UNKNOWN_SCHEMA",
      verdict: "stop-table",
      message: `a row names schema ${id}, which is not there`,
      advice: "a schema comes before its rows",
    });
  }

  async settle(): Promise<void> {
    const end = await this.#network.call("kafka", () => this.#kafka.end(TOPIC));
    this.#learn(end);
    while (this.#read < end) await this.#moved.wait();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#unfollow();
  }
}
