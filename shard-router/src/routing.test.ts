import { Database } from "bun:sqlite";
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EventTable } from "@cascade/shared/change-event";
import { eventEncoder } from "@cascade/shared/event-writer";
import type { ServiceContext } from "@cascade/shared/service";
import { ServiceHealth } from "@cascade/shared/service-health";
import { SILENT_TELEMETRY } from "@cascade/shared/testing/silent-telemetry";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { historyOf } from "../test/memory-replica.ts";
import { readRouterConfig } from "./config.ts";
import type { EventBatch, EventConsumer } from "./event-consumer.ts";
import { type ConsumerHooks, type RouterKafka, routingService } from "./routing.ts";
import type { SchemaHistory } from "./schema-history.ts";

/** Two routers of one SQLite replica, whose partitions are given and taken by the test. */

const dir = mkdtempSync(join(tmpdir(), "cascade-routing-"));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const orders = tableSchema("orders", { id: "integer" });
const encode = eventEncoder("cascade", "app");
const nothing = (): void => undefined;
const quiet = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function batchOf(table: string, ids: readonly number[]): EventBatch {
  const topic = `cascade.public.${table}`;
  const eventTable: EventTable = { schema: "public", table, topic, schemaId: orders.id };
  const values = ids.map((id) =>
    encode(
      {
        ...{ op: "c", table: eventTable, ordinal: 0, lsn: BigInt(id), key: null, before: null, after: JSON.stringify({ id }) },
        transaction: { txId: id, commitLsn: BigInt(id), committedAtMs: 0 },
      },
      0,
    ),
  );
  return {
    partition: { topic, partition: 0 },
    table: { schema: "public", table },
    events: values.map((value, at) => ({ offset: BigInt(at), key: null, value })),
    nextOffset: BigInt(ids.length),
    ...{ bytes: 0, lagEvents: 0n, traceParents: [] },
  };
}

class Router implements AsyncDisposable {
  readonly #over = new AbortController();
  readonly #life: Promise<void>;
  readonly #hooks = Promise.withResolvers<ConsumerHooks>();
  #deliver: (batch: EventBatch | null) => void = nothing;
  #taken: () => void = nothing;

  constructor(history: SchemaHistory, ends: number) {
    const config = readRouterConfig({
      ...{ KAFKA_BROKERS: "none:1", KAFKA_TOPIC_PREFIX: "cascade", REPLICA_URL: `sqlite:${join(dir, "replica.db")}` },
    });
    const context = { logger: quiet, telemetry: SILENT_TELEMETRY, health: new ServiceHealth() } as unknown as ServiceContext;
    const kafka: RouterKafka = {
      openSchemas: async () => ({
        history,
        settle: async () => undefined,
        known: () => orders,
        get: async () => orders,
        [Symbol.asyncDispose]: async () => undefined,
      }),
      openConsumer: async (hooks) => {
        this.#hooks.resolve(hooks);
        return this.#consumer(ends);
      },
      openDeadLetters: () => Promise.reject(new Error("nothing is refused")),
      requests: { ask: () => Promise.reject(new Error("no copy is asked for")) },
    };
    this.#life = routingService(config, context, kafka).live(this.#over.signal);
  }

  #consumer(ends: number): EventConsumer {
    const router = this;
    return {
      async *batches(signal) {
        while (!signal.aborted) {
          const next = Promise.withResolvers<EventBatch | null>();
          router.#deliver = next.resolve;
          router.#taken();
          const batch = await next.promise;
          if (batch !== null) yield batch;
        }
      },
      confirm: nothing,
      defer: () => {},
      hold: (_partition, _delayMs) => {
        throw new Error("no partition is held");
      },
      lookAtEnd: nothing,
      ends: async () => new Map([[0, BigInt(ends)]]),
      assigned: () => [],
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  /** The partition is given to it, and it applies the batch; one without events is the partition's end. */
  async applies(batch: EventBatch): Promise<void> {
    const { resume } = await Promise.race([
      this.#hooks.promise,
      this.#life.then(() => Promise.reject(new Error("it has ended"))),
    ]);
    await resume(batch.partition);
    const taken = Promise.withResolvers<void>();
    this.#taken = taken.resolve;
    this.#deliver(batch);
    await Promise.race([taken.promise, this.#life]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    this.#deliver(null);
    await this.#life;
  }
}

test("a router that is given a partition knows what the one before has made of its tables", async () => {
  const historyOfOne = historyOf([orders, 1n]);
  const historyOfOther = historyOf([orders, 1n]);
  await using one = new Router(historyOfOne, 2);
  await using other = new Router(historyOfOther, 2);
  await other.applies({ ...batchOf("others", []), nextOffset: 2n }); // it has looked at what tables there are: none
  await one.applies(batchOf("orders", [5, 6]));
  historyOfOther.learn({
    kind: "dropped",
    oid: orders.oid,
    schema: "public",
    table: "orders",
    at: { commitLsn: 9n, ordinal: 0 },
  });
  await other.applies({ ...batchOf("orders", []), nextOffset: 2n });
  const database = new Database(join(dir, "replica.db"));
  const tables = database.query("SELECT name FROM sqlite_master WHERE name = 'orders'").all();
  database.close();
  expect(tables).toEqual([]);
});
