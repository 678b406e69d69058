import { afterEach, expect, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import { identifySchema } from "@cascade/shared/table-schema";
import { topicOf } from "@cascade/shared/topic";
import { readSchemaHistory } from "../src/kafka/schema-topic.ts";
import { cleanUp, labOn, openPublisher } from "./publisher-lab.ts";

afterEach(cleanUp);

const tableNamed = (prefix: string, table: string, oid: number, lsn: bigint) => ({
  kind: "schema" as const,
  topic: topicOf(prefix, { schema: "public", table }),
  schema: identifySchema({ schema: "public", table, oid, columns: [], key: [], identity: "full" }),
  at: { commitLsn: lsn, ordinal: 2 },
  change: true,
});

test("what was announced is read back to the end of its topic, with its places; nothing where there is no topic", async () => {
  const l = await labOn((await testKafka()).brokers);
  expect([...(await readSchemaHistory(l.kafka, l.prefix)).history.oids]).toEqual([]);
  const publisher = await openPublisher(l);
  const [a, b] = [tableNamed(l.prefix, "a", 1, 10n), tableNamed(l.prefix, "b", 1, 20n)];
  await publisher.announce([a, tableNamed(l.prefix, "c", 2, 15n)]);
  await publisher.announce([b, { kind: "dropped", schema: "public", table: "c", oid: 2, at: { commitLsn: 30n, ordinal: 0 } }]);
  const { history, lost } = await readSchemaHistory(l.kafka, l.prefix);
  expect(history.asOf(1, 20n)).toEqual({ kind: "schema", schema: a.schema, at: a.at, rewritten: false });
  expect(history.newest(1)).toEqual({ kind: "schema", schema: b.schema, at: b.at, rewritten: false });
  expect(history.newest(2)?.kind).toBe("dropped");
  expect(lost.size).toBe(0);
  await l.admin.deleteTopics({ topics: [b.topic, topicOf(l.prefix, { schema: "public", table: "c" })] });
  // Of the other one nothing is to be known any more.
  expect([...(await readSchemaHistory(l.kafka, l.prefix)).lost.keys()]).toEqual([1]);
  expect(l.warnings).toEqual([]);
});
