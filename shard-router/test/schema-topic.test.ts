import { afterEach, describe, expect, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import { CascadeError } from "@cascade/shared/errors";
import { encodeSchemaMessage, identifySchema, type TableSchema } from "@cascade/shared/table-schema";
import { schemasTopic } from "@cascade/shared/topic";
import { openSchemaTopic, type SchemaTopicOptions } from "../src/kafka/schema-topic.ts";
import type { SchemaBook } from "../src/schema-book.ts";
import { type ConsumerLab, cleanUp, cleanUpAll, labOn, openConsumer, see } from "./consumer-lab.ts";

afterEach(cleanUpAll);

interface SchemaLab extends ConsumerLab {
  readonly schemas: string;
  publish(...schemas: TableSchema[]): Promise<void>;
}

async function lab({ topic = true } = {}): Promise<SchemaLab> {
  const l = await labOn((await testKafka()).brokers);
  const schemas = schemasTopic(l.prefix);
  if (topic) await makeTopic(l);
  return { ...l, schemas, publish: (...list) => l.send(schemas, list.map(encodeSchemaMessage)) };
}

const makeTopic = (l: ConsumerLab) => l.createTopic(schemasTopic(l.prefix), { settings: { "cleanup.policy": "compact" } });

async function open(l: Pick<ConsumerLab, "kafka" | "prefix">, options: Partial<SchemaTopicOptions> = {}): Promise<SchemaBook> {
  const book = await openSchemaTopic({ kafka: l.kafka, prefix: l.prefix, groupId: `${l.prefix}.replica`, ...options });
  cleanUp(() => book[Symbol.asyncDispose]());
  return book;
}

const schemaOf = (table: string): TableSchema => {
  const column = { name: "id", attnum: 1, type: "integer", typeOid: 23, typmod: -1, nullable: false, default: null };
  return identifySchema({
    schema: "public",
    table,
    oid: 16_400,
    columns: [{ ...column, generated: false }],
    key: ["id"],
    identity: "default",
  });
};

const failure = (act: Promise<unknown>): Promise<unknown> => act.catch((error: unknown) => error);
const unknown = { code: "UNKNOWN_SCHEMA", verdict: "stop-table" };

describe("a schema", () => {
  test("published before is found, at once or as soon as the topic is read", async () => {
    const l = await lab();
    const many = Array.from({ length: 300 }, (_, i) => schemaOf(`t${i}`));
    await l.publish(...many);
    const book = await open(l);
    const last = many.at(-1) as TableSchema;
    expect(await book.get(last.id)).toEqual(last);
    for (const schema of many) expect(book.known(schema.id)).toEqual(schema);
    expect(l.warnings).toEqual([]);
  });

  test("published while running is found by whoever asks after that, the first time", async () => {
    const l = await lab();
    const book = await open(l);
    for (let i = 0; i < 20; i++) {
      const schema = schemaOf(`late${i}`);
      expect(book.known(schema.id)).toBeUndefined();
      await l.publish(schema);
      expect(await book.get(schema.id)).toEqual(schema);
    }
  });

  test("that is not in the topic is unknown, and found once it is", async () => {
    const l = await lab();
    await l.publish(schemaOf("a"));
    const book = await open(l);
    const b = schemaOf("b");
    expect(await failure(book.get(b.id))).toMatchObject(unknown);
    await l.publish(b);
    const [one, two] = await Promise.all([book.get(b.id), book.get(b.id)]);
    expect([one, two]).toEqual([b, b]);
  });

  test("is unknown while there is no topic, and found once it was made", async () => {
    const l = await lab({ topic: false });
    const book = await open(l);
    const schema = schemaOf("a");
    expect(await failure(book.get(schema.id))).toMatchObject(unknown);
    await makeTopic(l);
    expect(await failure(book.get(schema.id))).toMatchObject(unknown);
    await l.publish(schema);
    expect(await book.get(schema.id)).toEqual(schema);
  });

  test("is unknown when the topic's records are gone, without a wait", async () => {
    const l = await lab();
    await l.publish(schemaOf("a"), schemaOf("b"));
    // What is compacted only cannot have its records deleted.
    await l.admin.deleteTopics({ topics: [l.schemas] });
    await see(async () => !(await l.admin.listTopics()).includes(l.schemas));
    await l.createTopic(l.schemas);
    await l.publish(schemaOf("a"), schemaOf("b"));
    await l.deleteBefore(l.schemas, 2);
    const book = await open(l);
    expect(await failure(book.get(schemaOf("a").id))).toMatchObject(unknown);
  });

  test("stays known after its tombstone", async () => {
    const l = await lab();
    const [a, b] = [schemaOf("a"), schemaOf("b")];
    await l.publish(a);
    await l.send(l.schemas, [{ key: encodeSchemaMessage(a).key, value: null }]);
    await l.publish(b);
    const book = await open(l);
    await book.get(b.id);
    expect(book.known(a.id)).toEqual(a);
    expect(l.warnings).toEqual([]);
  });
});

test("a malformed message is skipped with a warning", async () => {
  const l = await lab();
  const [a, b] = [schemaOf("a"), schemaOf("b")];
  const { key, value } = encodeSchemaMessage(a);
  await l.send(l.schemas, [
    { key: "not json", value },
    { key, value: "{}" },
    { key: '{"id":1}', value },
  ]);
  await l.publish(b);
  const book = await open(l);
  expect(await book.get(b.id)).toEqual(b);
  expect(await failure(book.get(a.id))).toMatchObject(unknown);
  expect(l.warnings).toEqual(Array(3).fill("skipped a message that is not a table schema"));
});

test("each process reads all of it, and leaves nothing in Kafka's groups", async () => {
  const l = await lab();
  const schema = schemaOf("a");
  await l.publish(schema);
  const books = await Promise.all([open(l), open(l)]);
  for (const book of books) expect(await book.get(schema.id)).toEqual(schema);
  const started = performance.now();
  for (const book of books) await book[Symbol.asyncDispose]();
  expect(performance.now() - started).toBeLessThan(5_000);
  const { groups } = await l.admin.listGroups();
  const own = groups.map(({ groupId }) => groupId).filter((id) => id.startsWith(`${l.prefix}.replica.schemas.`));
  const described = await l.admin.describeGroups(own);
  for (const group of described.groups) expect(group.members).toEqual([]);
  const offsets = await Promise.all(own.map((groupId) => l.admin.fetchOffsets({ groupId, topics: [l.schemas] })));
  for (const [topic] of offsets) expect(topic?.partitions.map(({ offset }) => offset)).toEqual(["-1"]);
});

test("opening it and the consumer takes well under 1.5 s until both have read", async () => {
  const l = await lab();
  const schema = schemaOf("t");
  await l.publish(schema);
  const topic = await l.fill("t", 10);
  // A broker's first group waits for its coordinator.
  await (await open(l)).get(schema.id);
  const started = performance.now();
  const [book, { consumer }] = await Promise.all([open(l), openConsumer(l)]);
  const opened = performance.now() - started;
  const found = book.get(schema.id);
  for await (const batch of consumer.batches(new AbortController().signal)) {
    expect(batch.partition.topic).toBe(topic);
    break;
  }
  await found;
  const ready = performance.now() - started;
  process.stdout.write(`opened in ${opened.toFixed(0)} ms, first batch and schema after ${ready.toFixed(0)} ms\n`);
  expect(ready).toBeLessThan(1_500);
});

test("a broker killed: what is known stays known, and what is not rejects with retry or is found when it is back", async () => {
  const server = await testKafka();
  const l = await lab();
  const [a, b] = [schemaOf("a"), schemaOf("b")];
  await l.publish(a);
  const book = await open(l, { waitMs: 1_000 });
  await book.get(a.id);
  await server.kill("SIGKILL");
  try {
    expect(await book.get(a.id)).toEqual(a);
    expect(await failure(book.get(b.id))).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry" });
  } finally {
    await server.start();
  }
  await l.publish(b);
  const answer = await failure(book.get(b.id));
  if (answer instanceof CascadeError) expect(answer.verdict).toBe("retry");
  else expect(answer).toEqual(b);
  expect(await (await open(l)).get(b.id)).toEqual(b);
});
