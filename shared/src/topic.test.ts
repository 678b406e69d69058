import { expect, test } from "bun:test";
import fc from "fast-check";
import { deadLettersTopic, formatTableName, schemasTopic, tableOfTopic, topicOf } from "./topic.ts";

/** Two of them fit in a topic name, whatever is escaped: what does not fit is another test. */
const identifier = fc
  .oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 7 }),
    fc.stringMatching(/^[._x5F2E-]{1,6}$/),
    fc.constant("dead-letters"),
  )
  .filter((name) => name.isWellFormed() && !name.includes("\0"));
const tableName = fc.record({ schema: identifier, table: identifier });

test("a topic names its table, and no two tables share one", () => {
  fc.assert(
    fc.property(tableName, fc.constantFrom("cascade", "a.b", "x_y"), (name, prefix) => {
      const topic = topicOf(prefix, name);
      expect(topic).toMatch(/^[A-Za-z0-9._-]+$/);
      // A schema named dead-letters is the one name that is written specially.
      if (name.schema === "dead-letters") expect(topic).not.toStartWith(`${prefix}.dead-letters.`);
      expect(tableOfTopic(prefix, topic)).toEqual(name);
    }),
  );
});

test("what Kafka does not allow, the dot and the escape character are written _xHH per UTF-8 byte", () => {
  expect(topicOf("cascade", { schema: "public", table: "orders" })).toBe("cascade.public.orders");
  expect(topicOf("cascade", { schema: "public", table: "order_items" })).toBe("cascade.public.order_x5Fitems");
  expect(topicOf("cascade", { schema: "public", table: 'we.ird "T" é' })).toBe(
    "cascade.public.we_x2Eird_x20_x22T_x22_x20_xC3_xA9",
  );
});

test("other topics of the prefix, and other prefixes, are no tables", () => {
  for (const topic of [
    schemasTopic("cascade"),
    deadLettersTopic("cascade", "replica_1"),
    "cascade.heartbeat",
    "cascade2.public.a",
    "cascade.public.a.b",
    "cascade.public.a_b",
    "cascade.public.a_xZZ",
    "cascade.public.a_xFF",
    "__consumer_offsets",
  ]) {
    expect(tableOfTopic("cascade", topic)).toBeNull();
  }
});

test("a name too long for Kafka is refused with the table and the cure", () => {
  expect(() => topicOf("cascade", { schema: "public", table: "é".repeat(27) })).not.toThrow();
  expect(() => topicOf("cascade", { schema: "public", table: "é".repeat(31) })).toThrow(/needs a topic name of 263 characters/);
});

test("table names are quoted where PostgreSQL would need it", () => {
  expect(formatTableName({ schema: "public", table: "orders" })).toBe("public.orders");
  expect(formatTableName({ schema: "public", table: 'a"b.c' })).toBe('public."a""b.c"');
});
