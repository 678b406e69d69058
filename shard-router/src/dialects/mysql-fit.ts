import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { decimalOf } from "../types/numbers.ts";
import { type MysqlType, mysqlColumnType, parseMysqlType } from "./mysql-types.ts";

/** Whether a column of the user's own holds every value of the source's, or refuses it loudly: never another value. */
export function mysqlHolds(schema: TableSchema, source: ColumnSchema, type: MysqlType): boolean {
  const { typeOid } = source;
  switch (type.kind) {
    case "text":
      return typeOid !== PG_TYPE.bytea && holdsText(schema, source, type);
    case "integer":
      return holdsInteger(typeOid, type);
    case "decimal": {
      const wanted = decimalOf(source);
      const [precision = 10, scale = 0] = type.size;
      return wanted !== null && !type.unsigned && scale === wanted.scale && precision >= wanted.precision;
    }
    case "double":
      return (typeOid === PG_TYPE.float4 || typeOid === PG_TYPE.float8) && type.size.length === 0 && !type.unsigned;
    case "bytes":
      return typeOid === PG_TYPE.bytea && type.base !== "binary" && bytesOf(type) >= neededBytes(schema, source);
    case "date":
      return typeOid === DATE;
    case "datetime":
      return TIMESTAMPS.has(typeOid) && (type.size[0] ?? 0) >= (fractionDigits(source) ?? 6);
    case "time":
      return typeOid === TIME && (type.size[0] ?? 0) >= (fractionDigits(source) ?? 6);
    case "uuid":
      return typeOid === UUID;
    case null:
      return false;
  }
}

const DATE = 1082;
const TIME = 1083;
const TIMESTAMPS: ReadonlySet<number> = new Set([1114, 1184]);
const UUID = 2950;

const fractionDigits = ({ typmod }: ColumnSchema): number | null => (typmod >= 0 ? typmod : null);

const INTEGER_BYTES: Readonly<Record<string, number>> = { boolean: 1, tinyint: 1, smallint: 2, mediumint: 3, int: 4, bigint: 8 };

function holdsInteger(typeOid: number, { base, unsigned }: MysqlType): boolean {
  const bytes = INTEGER_BYTES[base] ?? 0;
  switch (typeOid) {
    case PG_TYPE.bool:
      return true;
    case PG_TYPE.int2:
      return !unsigned && bytes >= 2;
    case PG_TYPE.int4:
      return !unsigned && bytes >= 4;
    case PG_TYPE.int8:
      return !unsigned && bytes >= 8;
    case PG_TYPE.oid:
      return (unsigned && bytes >= 4) || bytes >= 8;
    default:
      return false;
  }
}

/** CHAR loses blanks at the end. */
function holdsText(schema: TableSchema, source: ColumnSchema, { base, size }: MysqlType): boolean {
  if (base === "longtext" || base === "mediumtext") return true;
  if (base === "char" && source.typeOid !== UUID) return false;
  // TEXT and TINYTEXT have so many bytes, of which a character may take four.
  const length = base === "text" ? 16_383 : base === "tinytext" ? 63 : (size[0] ?? 1);
  return length >= neededLength(schema, source);
}

/** Characters of PostgreSQL's longest text of the type; a key's column need not be longer than what Cascade would make. */
function neededLength(schema: TableSchema, source: ColumnSchema): number {
  const made = parseMysqlType(mysqlColumnType(schema, source));
  if (made.kind === "text" && made.size[0] !== undefined) return made.size[0];
  return declaredLength(source) ?? LONGEST_TEXT[source.typeOid] ?? Number.POSITIVE_INFINITY;
}

/** By pg_type OID: numbers, money, times, addresses and identifiers have short texts. */
const LONGEST_TEXT: Readonly<Record<number, number>> = {
  [PG_TYPE.bool]: 5,
  [PG_TYPE.int2]: 6,
  [PG_TYPE.int4]: 11,
  [PG_TYPE.int8]: 20,
  [PG_TYPE.oid]: 10,
  [PG_TYPE.float4]: 24,
  [PG_TYPE.float8]: 24,
  [TIME]: 15,
  790: 32, // money
  829: 17, // macaddr
  774: 23, // macaddr8
  3220: 17, // pg_lsn
  18: 1, // "char"
  19: 63, // name
};

/** n of varchar(n) and char(n); of numeric(p,s) the digits with sign and point. */
export function declaredLength(source: ColumnSchema): number | null {
  const length = /^character(?: varying)?\((\d+)\)$/.exec(source.type)?.[1];
  if (length !== undefined) return Number(length);
  const digits = decimalOf(source);
  return digits === null ? null : Math.max(digits.precision, digits.precision - digits.scale, digits.scale) + 3;
}

const bytesOf = ({ base, size }: MysqlType): number =>
  base === "longblob" || base === "mediumblob" ? Number.POSITIVE_INFINITY : base === "varbinary" ? (size[0] ?? 0) : 0;

const neededBytes = (schema: TableSchema, source: ColumnSchema): number =>
  parseMysqlType(mysqlColumnType(schema, source)).size[0] ?? Number.POSITIVE_INFINITY;
