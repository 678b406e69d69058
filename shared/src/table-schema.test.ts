import { expect, test } from "bun:test";
import { decodeSchemaMessage, encodeSchemaMessage, identifySchema } from "./table-schema.ts";

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
  expect(decodeSchemaMessage(key, value)).toEqual(schema);
});

test("what is not a schema message is refused", () => {
  const { key, value } = encodeSchemaMessage(identifySchema(content));
  expect(() => decodeSchemaMessage("{", value)).toThrow();
  expect(() => decodeSchemaMessage(key, '{"schema":"public"}')).toThrow();
});
