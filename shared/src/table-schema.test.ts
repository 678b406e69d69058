import { expect, test } from "bun:test";
import {
  decodeSchemaMessage,
  encodeSchemaMessage,
  encodeSchemaNews,
  identifySchema,
  type SchemaMessage,
} from "./table-schema.ts";

const column = {
  name: "id",
  attnum: 1,
  type: "integer",
  typeOid: 23,
  typmod: -1,
  nullable: false,
  default: null,
  generated: false,
};
const content = { schema: "public", table: "orders", oid: 16400, columns: [column], key: ["id"], identity: "default" as const };

test("the id is a content hash: equal content, equal id; any difference, another", () => {
  const { id } = identifySchema(content);
  expect(id).toMatch(/^[0-9a-f]{16}$/);
  expect(identifySchema(structuredClone(content)).id).toBe(id);
  const others = [
    { ...content, table: "order" },
    { ...content, oid: 16401 },
    { ...content, key: [] },
    { ...content, identity: "full" as const },
    ...Object.entries({
      name: "x",
      attnum: 2,
      type: "bigint",
      typeOid: 20,
      typmod: 4,
      nullable: true,
      default: "0",
      generated: true,
    }).map(([field, value]) => ({ ...content, columns: [{ ...column, [field]: value }] })),
  ];
  expect(new Set([id, ...others.map((other) => identifySchema(other).id)]).size).toBe(others.length + 1);
});

test("a schema message carries the schema without loss, in the documented shape", () => {
  const schema = identifySchema(content);
  const { key, value } = encodeSchemaMessage(schema);
  expect(JSON.parse(key)).toEqual({ schema: "public", table: "orders", id: schema.id });
  expect(JSON.parse(value)).toEqual(content);
  expect(decodeSchemaMessage(key, value)).toEqual({ kind: "schema", schema, at: null, rewritten: false });
});

test("what rows from before a column have in it is part of the id where there is such a value, and of no other id", () => {
  const { id } = identifySchema(content);
  expect(id).toBe("fd6578eba0b98ffd");
  const ids = [0, "0", "", false].map((missing) => identifySchema({ ...content, columns: [{ ...column, missing }] }).id);
  expect(new Set([id, ...ids]).size).toBe(5);
});

test("a schema that changes and a table that is dropped carry their place, in the documented shape", () => {
  const schema = identifySchema({ ...content, columns: [column, { ...column, name: "n", attnum: 2, missing: "1.50" }] });
  const at = { commitLsn: 2n ** 63n + 1n, ordinal: 3 };
  const changed: SchemaMessage = { kind: "schema", schema, at, rewritten: true };
  const dropped: SchemaMessage = { kind: "dropped", schema: "public", table: "orders", oid: 16400, at };
  const [first, second] = [encodeSchemaNews(changed), encodeSchemaNews(dropped)];
  expect(first.value).toEndWith(',"at":{"commit_lsn":9223372036854775809,"ordinal":3},"rewritten":true}');
  expect(second.key).toBe('{"schema":"public","table":"orders","id":"dropped-16400"}');
  expect(second.value).toBe(
    '{"schema":"public","table":"orders","oid":16400,"dropped":true,"at":{"commit_lsn":9223372036854775809,"ordinal":3}}',
  );
  expect(decodeSchemaMessage(first.key, first.value)).toEqual(changed);
  expect(decodeSchemaMessage(second.key, second.value)).toEqual(dropped);
});

test("what is not a schema message is refused", () => {
  const { key, value } = encodeSchemaMessage(identifySchema(content));
  expect(() => decodeSchemaMessage("{", value)).toThrow();
  expect(() => decodeSchemaMessage(key, '{"schema":"public"}')).toThrow();
});
