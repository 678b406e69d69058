import { afterEach, describe, expect, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import { type ChangeEvent, type EventTable, SCHEMAS_FIRST_HEADER } from "@cascade/shared/change-event";
import type { KafkaCompression } from "@cascade/shared/kafka";
import { partOf } from "@cascade/shared/key-parts";
import { decodeSchemaMessage, identifySchema } from "@cascade/shared/table-schema";
import { type KafkaLab, kafkaOptions } from "@cascade/shared/testing/kafka-lab";
import { schemasTopic } from "@cascade/shared/topic";
import { ConfigResourceTypes } from "kafkajs";
import { readSchemaHistory } from "../src/kafka/schema-topic.ts";
import { cleanUp, failure, insert, inserts, labOn, openPublisher as open, padded, tableOf } from "./publisher-lab.ts";

afterEach(cleanUp);

const lab = async () => labOn((await testKafka()).brokers);

const AT = { commitLsn: 22_781_520n, ordinal: 1 };

const schemaOf = (l: KafkaLab, table = "orders", oid = 16_400) => ({
  kind: "schema" as const,
  at: AT,
  change: false,
  topic: tableOf(l, table).topic,
  schema: identifySchema({
    schema: "public",
    table,
    oid,
    columns: [
      { name: "id", attnum: 1, type: "integer", typeOid: 23, typmod: -1, nullable: false, default: null, generated: false },
    ],
    key: ["id"],
    identity: "default",
  }),
});

const keys = async (l: KafkaLab, topic: string) => (await l.read(topic)).map(({ key }) => key?.toString() ?? null);

async function settings(l: KafkaLab, topic: string): Promise<Record<string, string>> {
  const { resources } = await l.admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
  });
  return Object.fromEntries((resources[0]?.configEntries ?? []).map((entry) => [entry.configName, entry.configValue]));
}

describe("topics", () => {
  test("are made with their settings before the first message", async () => {
    const l = await lab();
    const publisher = await open(l);
    await publisher.announce([schemaOf(l)]);
    const { topic } = tableOf(l);
    const unlimited = { "retention.ms": "-1", "retention.bytes": "-1" };
    const common = { "compression.type": "producer", "message.timestamp.type": "CreateTime", "max.message.bytes": "10485760" };
    expect(await settings(l, topic)).toMatchObject({ "cleanup.policy": "delete", ...unlimited, ...common });
    expect(await settings(l, schemasTopic(l.prefix))).toMatchObject({ "cleanup.policy": "compact", ...common });
    expect(await l.admin.fetchTopicOffsets(topic)).toMatchObject([{ partition: 0, high: "0" }]);
    expect(l.warnings).toEqual([]);
  });

  test("that exist are used as they are", async () => {
    const l = await lab();
    const { topic } = tableOf(l);
    await l.createTopic(topic, { settings: { "retention.ms": "86400000" } });
    await (await open(l)).publish([insert(tableOf(l), 0)]);
    expect(await settings(l, topic)).toMatchObject({ "retention.ms": "86400000", "max.message.bytes": "1048588" });
  });

  test("of several partitions have rows divided by their key, which is said before the first of them", async () => {
    const l = await lab();
    const publisher = await open(l, { partitions: 3 });
    const announced = schemaOf(l);
    const table = { ...tableOf(l), schemaId: announced.schema.id };
    await publisher.announce([announced]);
    await publisher.publish([...inserts(table, 30), { ...insert(table, 30), op: "t", key: null, after: null }]);
    const [said] = await l.read(schemasTopic(l.prefix));
    expect(decodeSchemaMessage(String(said?.key), String(said?.value))).toMatchObject({ kind: "schema", partitions: 3 });
    const messages = await l.read(table.topic);
    expect(new Set(messages.map(({ partition }) => partition)).size).toBe(3);
    for (const { key, partition } of messages)
      if (key !== null) expect(partition).toBe(partOf(String(JSON.parse(String(key)).id), 3));
    expect(messages.filter(({ key }) => key === null).map(({ partition }) => partition)).toEqual(
      expect.arrayContaining([0, 1, 2]),
    );
    expect(messages).toHaveLength(33);
    expect(await l.admin.fetchTopicOffsets(schemasTopic(l.prefix))).toHaveLength(1);
  });

  test("that got more partitions keep their rows in those that they are in; one of fewer is refused", async () => {
    const l = await lab();
    const announced = schemaOf(l);
    const table = { ...tableOf(l), schemaId: announced.schema.id };
    const first = await open(l, { partitions: 2 });
    await first.announce([announced]);
    await first.publish(inserts(table, 20));
    await l.admin.createPartitions({ topicPartitions: [{ topic: table.topic, count: 5 }] });
    const recalling = async (): ReturnType<typeof open> => {
      const publisher = await open(l, { partitions: 5 });
      const { history } = await readSchemaHistory(l.kafka, l.prefix);
      publisher.recall(history.messages());
      return publisher;
    };
    const second = await recalling();
    await second.publish(inserts(table, 20, 20));
    for (const { key, partition } of await l.read(table.topic))
      expect(partition).toBe(partOf(String(JSON.parse(String(key)).id), 2));
    expect(l.warnings).toEqual([expect.stringContaining("stay in the first 2")]);
    // Made anew: it is another log, and routers are told of it.
    await l.admin.deleteTopics({ topics: [table.topic] });
    const third = await recalling();
    await third.publish(inserts(table, 20, 40));
    expect(await l.admin.fetchTopicOffsets(table.topic)).toHaveLength(5);
    const said = (await l.read(schemasTopic(l.prefix))).at(-1);
    expect(decodeSchemaMessage(String(said?.key), String(said?.value))).toMatchObject({ partitions: 5 });
    await l.admin.deleteTopics({ topics: [table.topic] });
    await l.createTopic(table.topic, { partitions: 3 });
    await l.write(table.topic, "somebody's");
    const error = await failure((await recalling()).publish(inserts(table, 1)));
    expect(error).toMatchObject({ code: "TOPIC_PARTITIONS", verdict: "refuse" });
  });

  test("that are compacted are refused", async () => {
    const l = await lab();
    await l.createTopic(tableOf(l).topic, { settings: { "cleanup.policy": "compact,delete" } });
    const error = await failure((await open(l)).publish([insert(tableOf(l), 0)]));
    expect(error).toMatchObject({ code: "TOPIC_COMPACTED", verdict: "refuse" });
    expect(await l.read(tableOf(l).topic)).toEqual([]);
  });

  test("that the broker compresses as routers cannot read are refused, others are not", async () => {
    const l = await lab();
    const [unreadable, readable] = [tableOf(l, "snappy"), tableOf(l, "zstd")];
    for (const table of [unreadable, readable])
      await l.createTopic(table.topic, { settings: { "compression.type": table.table } });
    await (await open(l, { compression: "gzip" })).publish(inserts(readable, 3));
    expect(await keys(l, readable.topic)).toEqual(inserts(readable, 3).map(({ key }) => key));
    const error = await failure((await open(l)).publish([insert(unreadable, 0)]));
    expect(error).toMatchObject({ code: "TOPIC_COMPRESSION", verdict: "refuse" });
  });

  test("the schemas topic is set to compact, its other settings kept", async () => {
    const l = await lab();
    const topic = schemasTopic(l.prefix);
    await l.createTopic(topic, { settings: { "segment.ms": "600000" } });
    await (await open(l)).announce([schemaOf(l)]);
    expect(await settings(l, topic)).toMatchObject({ "cleanup.policy": "compact", "segment.ms": "600000" });
    expect(l.warnings).toEqual(["the topic was not compacted: cleanup.policy is now compact"]);
  });

  test("two publishers may make the same topics at once", async () => {
    const l = await lab();
    const publishers = await Promise.all([open(l), open(l)]);
    const tables = ["a", "b", "c"].map((name) => tableOf(l, name));
    await Promise.all(publishers.map((publisher) => publisher.publish(tables.map((table) => insert(table, 0)))));
    for (const { topic } of tables) expect(await keys(l, topic)).toEqual(['{"id":0}', '{"id":0}']);
  });

  test("deleted while running: rejects with retry, and a fresh publisher makes it again", async () => {
    const l = await lab();
    const publisher = await open(l);
    const { topic } = tableOf(l);
    await publisher.publish([insert(tableOf(l), 0)]);
    await l.admin.deleteTopics({ topics: [topic] });
    expect(await failure(publisher.publish([insert(tableOf(l), 1)]))).toMatchObject({
      code: "KAFKA_UNKNOWN_TOPIC",
      verdict: "retry",
    });
    await (await open(l)).publish([insert(tableOf(l), 1)]);
    expect(await keys(l, topic)).toEqual(['{"id":1}']);
  });
});

describe("messages", () => {
  test("carry key, value, headers and the time of capture", async () => {
    const l = await lab();
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const before = Date.now();
    const publisher = await open(l, { traceparent: () => traceparent });
    const table = tableOf(l);
    const events: ChangeEvent[] = [
      insert(table, 1, '{"id":1,"t":"é\\"€😀"}'),
      { ...insert(table, 2), op: "t", key: null, after: null },
    ];
    const bytes = await publisher.publish(events);
    const [first, second] = await l.read(table.topic);
    const capturedAtMs = Number(first?.timestamp);
    expect(capturedAtMs).toBeGreaterThanOrEqual(before);
    expect(capturedAtMs).toBeLessThanOrEqual(Date.now());
    const source = `"source":{"version":"1.0.0","connector":"cascade","name":"${l.prefix}","db":"app","schema":"public","table":"orders","txId":771,"lsn":22781456,"ts_ms":1795402676163,"snapshot":"false","commit_lsn":22781520,"ordinal":`;
    const tail = `,"schema_id":"5f0c2a9e1b7d4c33"},"ts_ms":${capturedAtMs}}`;
    expect(first?.key?.toString()).toBe('{"id":1}');
    expect(first?.value?.toString()).toBe(`{"op":"c","before":null,"after":{"id":1,"t":"é\\"€😀"},${source}1${tail}`);
    expect(second?.key).toBeNull();
    expect(second?.value?.toString()).toBe(`{"op":"t","before":null,"after":null,${source}2${tail}`);
    for (const message of [first, second]) {
      expect(message?.headers).toEqual({ traceparent: Buffer.from(traceparent) });
      expect(message?.timestamp).toBe(String(capturedAtMs));
    }
    expect(bytes).toBeGreaterThan((first?.value?.length ?? 0) + (second?.value?.length ?? 0));
  });

  test("have no header where nothing is traced", async () => {
    const l = await lab();
    await (await open(l, { traceparent: () => null })).publish([insert(tableOf(l), 0)]);
    expect((await l.read(tableOf(l).topic))[0]?.headers).toEqual({});
  });

  test("of a schema are published once in a row, with its place, and read back as they were; so is what was dropped", async () => {
    const l = await lab();
    const publisher = await open(l);
    const [a, other, b] = [schemaOf(l, "a"), schemaOf(l, "renamed"), schemaOf(l, "b", 16_401)];
    const dropped = { kind: "dropped" as const, schema: "public", table: "b", oid: 16_401, at: AT };
    await publisher.announce([a, b]);
    await publisher.announce([a]);
    await publisher.announce([]);
    await publisher.announce([other, a, { ...a, rewritten: true }, dropped, dropped]);
    const read = (await l.read(schemasTopic(l.prefix))).map(({ key, value }) => decodeSchemaMessage(String(key), String(value)));
    const said = ({ schema }: typeof a, rewritten = false) => ({ kind: "schema", schema, at: AT, rewritten });
    expect(read).toEqual([said(a), said(b), said(other), said(a), said(a, true), dropped] as never);
  });

  test("that follow what is said of a table which has had other names tell routers to read that first, the first of each life too", async () => {
    const l = await lab();
    const publisher = await open(l);
    const marked = async (table: EventTable) =>
      (await l.read(table.topic)).map(({ headers }) => headers?.[SCHEMAS_FIRST_HEADER] !== undefined);
    const [a, b] = [tableOf(l, "a"), tableOf(l, "b")];
    await publisher.announce([schemaOf(l, "a")]);
    await publisher.publish([insert(a, 0)]);
    await publisher.announce([schemaOf(l, "b"), schemaOf(l, "a")]);
    await publisher.publish([insert(b, 1), insert(b, 2), insert(a, 3), insert(a, 4)]);
    expect([await marked(a), await marked(b)]).toEqual([
      [false, true, false],
      [true, false],
    ]);
    const next = await open(l);
    next.recall((await readSchemaHistory(l.kafka, l.prefix)).history.messages());
    await next.publish([insert(a, 5), insert(a, 6)]);
    expect((await marked(a)).slice(-2)).toEqual([true, false]);
  });

  test("keep their order in each of many topics, over many calls", async () => {
    const l = await lab();
    const publisher = await open(l);
    const tables = ["a", "b", "c"].map((name) => tableOf(l, name));
    for (let call = 0; call < 10; call++) {
      await publisher.publish(Array.from({ length: 300 }, (_, i) => insert(tables[i % 3] as EventTable, call * 300 + i)));
    }
    for (const [at, { topic }] of tables.entries()) {
      expect(await keys(l, topic)).toEqual(Array.from({ length: 1_000 }, (_, i) => `{"id":${i * 3 + at}}`));
    }
  });

  test.each<KafkaCompression>(["none", "gzip", "zstd"])("read back with compression %s", async (compression) => {
    const l = await lab();
    const noise = Buffer.from(Array.from({ length: 3_000 }, (_, i) => (i * i * 31) % 251)).toString("base64");
    const events = [insert(tableOf(l), 0, `{"b":"${noise}"}`), ...inserts(tableOf(l), 500, 1)];
    await (await open(l, { compression })).publish(events);
    const read = await l.read(tableOf(l).topic);
    expect(read.map(({ key }) => key?.toString() ?? null)).toEqual(events.map(({ key }) => key));
    expect(JSON.parse(String(read[0]?.value)).after).toEqual({ b: noise });
  });

  test("nothing to publish is nothing sent", async () => {
    const l = await lab();
    expect(await (await open(l)).publish([])).toBe(0);
  });
});

describe("sizes", () => {
  test("batches over the topic's limit are split", async () => {
    const l = await lab();
    const { topic } = tableOf(l);
    await l.createTopic(topic, { settings: { "max.message.bytes": "20000" } });
    await (await open(l)).publish(Array.from({ length: 200 }, (_, i) => padded(tableOf(l), i, 1_000)));
    expect(await keys(l, topic)).toEqual(inserts(tableOf(l), 200).map(({ key }) => key));
    expect((await settings(l, topic))["max.message.bytes"]).toBe("20000");
  });

  test("an oversized row raises its topic's limit and nothing else of the topic", async () => {
    const l = await lab();
    const { topic } = tableOf(l);
    await l.createTopic(topic, { settings: { "max.message.bytes": "20000", "retention.ms": "-1" } });
    const events = [
      padded(tableOf(l), 0, 10),
      padded(tableOf(l), 1, 50_000),
      padded(tableOf(l), 2, 90_000),
      padded(tableOf(l), 3, 10),
    ];
    await (await open(l)).publish(events);
    expect(await keys(l, topic)).toEqual(events.map(({ key }) => key));
    const after = await settings(l, topic);
    expect(Number(after["max.message.bytes"])).toBeGreaterThan(90_000);
    expect(after["retention.ms"]).toBe("-1");
    expect(l.warnings).toEqual(Array(2).fill("raised max.message.bytes for a large row"));
  });

  test("a limit lowered meanwhile rejects with retry, and a fresh publisher keeps to it", async () => {
    const l = await lab();
    const publisher = await open(l);
    const table = tableOf(l);
    await publisher.publish([insert(table, 0)]);
    const lowered = [{ name: "max.message.bytes", value: "20000" }];
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: table.topic, configEntries: lowered }];
    await l.admin.alterConfigs({ validateOnly: false, resources });
    let first = 1;
    const many = () => Array.from({ length: 100 }, (_, i) => padded(table, first + i, 1_000));
    const outcome = () =>
      publisher.publish(many()).then(
        () => null,
        (error: unknown) => error,
      );
    // The broker hears of its new limit a moment later.
    let error = await outcome();
    for (; error === null; error = await outcome()) first += 100;
    expect(error).toMatchObject({ code: "KAFKA_LIMIT_LOWERED", verdict: "retry" });
    // Of what a broken publisher sends, the broker could take the new for a repetition of the old.
    expect(await failure(publisher.publish([insert(table, 1)]))).toMatchObject({ code: "KAFKA_LIMIT_LOWERED" });
    await (await open(l)).publish(many());
    expect(await keys(l, table.topic)).toEqual(inserts(table, first + 100).map(({ key }) => key));
  });
});

describe("a broker that is away", () => {
  test("at the start: rejects with retry, within bounded time", async () => {
    const started = performance.now();
    const error = await failure(open({ kafka: kafkaOptions("127.0.0.1:1"), prefix: "nowhere" }));
    expect(error).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry" });
    expect(performance.now() - started).toBeLessThan(15_000);
  });
});
