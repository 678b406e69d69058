import { type ColumnSchema, identifySchema, type TableSchema } from "../src/table-schema.ts";

/** pg_type OIDs by the name that format_type gives, without modifiers. */
const TYPE_OIDS: Readonly<Record<string, number>> = {
  boolean: 16,
  bytea: 17,
  '"char"': 18,
  name: 19,
  bigint: 20,
  smallint: 21,
  integer: 23,
  text: 25,
  oid: 26,
  json: 114,
  real: 700,
  "double precision": 701,
  inet: 869,
  "integer[]": 1007,
  "text[]": 1009,
  bpchar: 1042,
  character: 1042,
  "character varying": 1043,
  date: 1082,
  "time without time zone": 1083,
  "timestamp without time zone": 1114,
  "timestamp with time zone": 1184,
  interval: 1186,
  "numeric[]": 1231,
  "time with time zone": 1266,
  bit: 1560,
  numeric: 1700,
  regclass: 2205,
  uuid: 2950,
  jsonb: 3802,
};
const SOME_USER_OID = 16_999;

export interface SchemaOptions {
  readonly schema?: string;
  readonly key?: readonly string[];
  readonly identity?: TableSchema["identity"];
  /** Columns outside the key are nullable unless they stand here. */
  readonly notNull?: readonly string[];
}

/**
 * A table's schema from `{ column: type }`, types as format_type writes them. The key is the first column unless said otherwise;
 * `key: []` is a table without one, and then under REPLICA IDENTITY FULL.
 */
export function tableSchema(
  table: string,
  types: Readonly<Record<string, string>> | readonly (readonly [string, string])[],
  options: SchemaOptions = {},
): TableSchema {
  const entries = Array.isArray(types) ? (types as readonly (readonly [string, string])[]) : Object.entries(types);
  const key = options.key ?? entries.slice(0, 1).map(([name]) => name);
  return identifySchema({
    schema: options.schema ?? "public",
    table,
    oid: 16_400,
    columns: entries.map(([name, type], index) =>
      columnSchema(name, type, { attnum: index + 1, nullable: !key.includes(name) && !options.notNull?.includes(name) }),
    ),
    key,
    identity: options.identity ?? (key.length === 0 ? "full" : "default"),
  });
}

export function columnSchema(name: string, type: string, given: Partial<ColumnSchema> = {}): ColumnSchema {
  const typeOid = TYPE_OIDS[type] ?? TYPE_OIDS[type.replace(/\(.*?\)/, "")] ?? (type.includes(".") ? SOME_USER_OID : undefined);
  if (typeOid === undefined) throw new TypeError(`no OID known for type ${type}: add it to TYPE_OIDS`);
  return { name, attnum: 1, type, typeOid, typmod: -1, nullable: true, default: null, generated: false, ...given };
}
