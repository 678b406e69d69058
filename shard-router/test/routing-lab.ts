import { testKafka } from "@cascade/local/servers.ts";
import type { ChangeEvent, Op } from "@cascade/shared/change-event";
import { eventEncoder } from "@cascade/shared/event-writer";
import type { Position } from "@cascade/shared/lsn";
import type { ServiceContext } from "@cascade/shared/service";
import { ServiceHealth } from "@cascade/shared/service-health";
import { encodeSchemaNews, type SchemaMessage, type TableSchema } from "@cascade/shared/table-schema";
import type { Telemetry } from "@cascade/shared/telemetry";
import { schemasTopic, topicOf } from "@cascade/shared/topic";
import { readRouterConfig } from "../src/config.ts";
import { routingService } from "../src/routing.ts";
import { type ConsumerLab, cleanUp, labOn } from "./consumer-lab.ts";
import { type ReplicaKind, type ReplicaLab, replicaLab } from "./replica-labs.ts";

/** Whole routers between a real Kafka, in which the tests stand for cdc, and a real replica. */
export interface RoutingLab {
  readonly kafka: ConsumerLab;
  readonly replica: ReplicaLab;
  /** Says what a table is like from `at` on, and makes its topic. */
  announce(schema: TableSchema, at: bigint, more?: { readonly rewritten?: boolean; readonly partitions?: number }): Promise<void>;
  dropped(schema: TableSchema, at: bigint): Promise<void>;
  /** Row changes of the schema, each with a position. */
  publish(schema: TableSchema, ...changes: readonly Change[]): Promise<void>;
  /** A router in this process, until the lab ends or `stop`. */
  router(env?: Readonly<Record<string, string>>): Router;
}

export interface Change {
  readonly at: bigint;
  readonly op?: Op;
  readonly before?: object | null;
  readonly after?: object | null;
  readonly partition?: number;
  readonly marks?: { readonly replica?: string; readonly notReplica?: string; readonly filling?: true };
}

export interface Router {
  /** `level text` of each line of its log. */
  readonly lines: readonly string[];
  status(): object;
  stop(): Promise<void>;
}

const place = (commitLsn: bigint): Position => ({ commitLsn, ordinal: 0 });

export async function routingLab(kind: ReplicaKind): Promise<RoutingLab> {
  const kafka = await labOn((await testKafka()).brokers);
  const replica = await replicaLab(kind);
  cleanUp(() => replica.close());
  const { prefix } = kafka;
  await kafka.createTopic(schemasTopic(prefix), { settings: { "cleanup.policy": "compact" } });
  const encode = eventEncoder(prefix, "app");
  const topics = new Set<string>();
  const say = (news: SchemaMessage) => kafka.send(schemasTopic(prefix), [encodeSchemaNews(news)]);
  return {
    kafka,
    replica,
    announce: async (schema, at, { rewritten = false, partitions = 1 } = {}) => {
      const topic = topicOf(prefix, schema);
      if (!topics.has(topic)) await kafka.createTopic(topic, { partitions });
      topics.add(topic);
      await say({ kind: "schema", schema, at: place(at), rewritten });
    },
    dropped: ({ schema, table, oid }, at) => say({ kind: "dropped", schema, table, oid, at: place(at) }),
    publish: async (schema, ...changes) => {
      const topic = topicOf(prefix, schema);
      const messages = changes.map((change) => ({
        key: null,
        value: encode(eventOf(schema, topic, change), 0),
        partition: change.partition ?? 0,
      }));
      await kafka.send(topic, messages);
    },
    router: (env = {}) => routerOf(kafka, replica, env),
  };
}

function eventOf(
  schema: TableSchema,
  topic: string,
  { at, op = "c", before = null, after = null, marks = {} }: Change,
): ChangeEvent {
  return {
    op,
    table: { schema: schema.schema, table: schema.table, topic, schemaId: schema.id, ...marks },
    transaction: { txId: 1, commitLsn: at, committedAtMs: Date.now() },
    ordinal: 1,
    lsn: at,
    key: null,
    before: before && JSON.stringify(before),
    after: after && JSON.stringify(after),
  };
}

function routerOf({ brokers, prefix }: ConsumerLab, { url }: ReplicaLab, env: Readonly<Record<string, string>>): Router {
  const lines: string[] = [];
  const log = (level: string) => (fields: object | string, text?: string) =>
    void lines.push(`${level} ${text ?? (typeof fields === "string" ? fields : "")}`);
  const logger = Object.fromEntries(["debug", "info", "warn", "error", "fatal", "trace"].map((level) => [level, log(level)]));
  const telemetry: Pick<Telemetry, "add" | "record" | "observe" | "span" | "traceparent"> = {
    add: () => {},
    record: () => {},
    observe: () => {},
    span: (_name, _options, work) => work(),
    traceparent: () => null,
  };
  const context = {
    logger: { ...logger, child: () => logger },
    telemetry,
    health: new ServiceHealth(),
  } as unknown as ServiceContext;
  const config = readRouterConfig({
    ...{ KAFKA_BROKERS: brokers, KAFKA_TOPIC_PREFIX: prefix, REPLICA_URL: url, REPLICA_NAME: "mine" },
    ...env,
  });
  const service = routingService(config, context);
  const stop = new AbortController();
  const running = (async () => {
    while (!stop.signal.aborted) {
      await service.live(stop.signal).catch((error: unknown) => void lines.push(`life ended: ${error}`));
      if (!stop.signal.aborted) await Bun.sleep(100);
    }
  })();
  const end = async () => {
    stop.abort();
    await running;
  };
  cleanUp(end);
  return { lines, status: () => service.status(), stop: end };
}
