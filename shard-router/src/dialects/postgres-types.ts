import { type ColumnSchema, FIRST_USER_OID } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { columnTypeFor } from "../types/type-table.ts";

/** The type of the column that Cascade makes for a source column. */
export function replicaType(column: ColumnSchema): string {
  const type = columnTypeFor("postgres", column);
  return type === "TEXT" ? "text" : type;
}

/**
 * Types a json_to_recordset column can be declared with: their input function then reads the JSON value itself. Everything else goes
 * through text: arrays and json would be taken for JSON structure, and the rest is too rare to matter.
 */
const RECORD_TYPES = new Set([
  "boolean",
  "smallint",
  "integer",
  "bigint",
  "real",
  "double precision",
  "numeric",
  "text",
  "character varying",
  "uuid",
  "date",
  "timestamp without time zone",
  "timestamp with time zone",
]);

/** Of those, the types whose `=` holds only for values that look the same too: not numeric (1.0 = 1.00), nor floats (-0 = 0). */
const IDENTICAL_WHEN_EQUAL = new Set([...RECORD_TYPES].filter((type) => !["real", "double precision", "numeric"].includes(type)));

export interface RecordColumn {
  /** Type in the column definition list of json_to_recordset. */
  readonly declared: string;
  /** The column's value, given the SQL for the record's column. */
  readonly value: (record: string) => string;
  /** Whether IS NOT DISTINCT FROM tells values apart exactly; else their `exactText` does. */
  readonly comparable: boolean;
}

/** SQL for the text of a value that is not comparable. A cast would drop the trailing blanks of a bpchar without a length. */
export const exactText = (type: string, value: string): string =>
  untypmodded(type) === "bpchar" ? `textin(bpcharout(${value}))` : `(${value})::text`;

const TEXTS = new Set(["text", "character varying"]);
const isFloat = ({ typeOid }: ColumnSchema): boolean => typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8;

/** How a wire value becomes a value of the replica's column. */
export function recordColumn(source: ColumnSchema, type: string): RecordColumn {
  const base = untypmodded(type);
  if (source.typeOid === PG_TYPE.bytea && base === "bytea") {
    return { declared: "text", value: (record) => `decode(${record}, 'base64')`, comparable: true };
  }
  if (isFloat(source) && TEXTS.has(base)) {
    // JSON.stringify writes an exponent in other places than PostgreSQL does.
    return { declared: source.type, value: (record) => `${record}::text`, comparable: true };
  }
  if (RECORD_TYPES.has(base)) return { declared: base, value: (record) => record, comparable: IDENTICAL_WHEN_EQUAL.has(base) };
  return { declared: "text", value: (record) => `${record}::${base}`, comparable: false };
}

/**
 * A type as `format_type` gives it, without its modifier: an explicit cast to varchar(3) truncates and to numeric(4,1) rounds, the
 * assignment that follows a cast to the bare type refuses. `character` and `bit` alone would mean one character, one bit.
 */
export function untypmodded(type: string): string {
  if (type.includes('."') || type.startsWith('"') || /^[^ (]*\./.test(type)) return type;
  const dimensions = /(?:\[\])*$/.exec(type)?.[0] ?? "";
  const element = type.slice(0, type.length - dimensions.length);
  const bare = element
    .replace(/\([^)]*\)/, "")
    .replace(/^interval.*/, "interval")
    .trim();
  return (BARE_NAMES.get(bare) ?? bare) + dimensions;
}

const BARE_NAMES = new Map([
  ["character", "bpchar"],
  ["bit", '"bit"'],
]);

/** Types with room for every value of the source's type, written the same. */
const WIDER = new Map<string, readonly string[]>([
  ["smallint", ["integer", "bigint", "numeric"]],
  ["integer", ["bigint", "numeric"]],
  ["bigint", ["numeric"]],
  ["oid", ["bigint", "numeric"]],
  ["real", ["double precision"]],
]);

const HAS_LENGTH = /^(?:character varying|bit varying|timestamp|time)\b/;

/** Whether a replica column of type `type` (as `format_type` gives it) holds every value of the source column exactly. */
export function holds(source: ColumnSchema, type: string): boolean {
  if (type === source.type) return true;
  if (source.typeOid === PG_TYPE.bytea) return false;
  if (TEXTS.has(type)) return true;
  if (source.typeOid >= FIRST_USER_OID) return false;
  if (type === untypmodded(source.type) || WIDER.get(source.type)?.includes(type)) return true;
  return untypmodded(type) === untypmodded(source.type) && HAS_LENGTH.test(type) && modifier(type) >= modifier(source.type);
}

const modifier = (type: string): number => Number(/\((\d+)\)/.exec(type)?.[1] ?? Number.POSITIVE_INFINITY);
