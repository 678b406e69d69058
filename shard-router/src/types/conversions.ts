import { type ColumnSchema, FIRST_USER_OID } from "@cascade/shared/table-schema";
import { PG_TYPE } from "../row-shape.ts";
import { decimalOf } from "./numbers.ts";

/**
 * What a column's change of type does on main-db to the values that are there, as the wire writes them:
 * - `kept`: nothing; an engine's column may still be another;
 * - `shortened`: blanks beyond the new length are cut off;
 * - `boolean-to-number`: true becomes 1;
 * - `decimals`: zeros are added behind the point;
 * - `midnight`: a date becomes the timestamp at its beginning;
 * - `utc-added`, `utc-removed`: a timestamp gets, or loses, the zone. PostgreSQL leaves the rows of such a table alone only when its zone is
 *   UTC, and otherwise they are copied again.
 */
export type Conversion = "kept" | "shortened" | "boolean-to-number" | "decimals" | "midnight" | "utc-added" | "utc-removed";

const NUMERIC = 1700;
const DATE = 1082;
const TIMESTAMP = 1114;
const TIMESTAMPTZ = 1184;
const INTEGERS: ReadonlySet<number> = new Set([PG_TYPE.int2, PG_TYPE.int4, PG_TYPE.int8, PG_TYPE.oid]);
const TEXT = 25;
const BPCHAR = 1042;
const VARCHAR = 1043;
const TEXTS: ReadonlySet<number> = new Set([TEXT, VARCHAR]);
/** Their cast to text is not their text on the wire: for inet it has a mask, others follow settings of main-db's session. */
const OTHER_AS_TEXT: ReadonlySet<number> = new Set([PG_TYPE.bytea, BPCHAR, 790, 869, TIMESTAMPTZ]);
/** Pairs of types that PostgreSQL takes for each other without looking at a value, and writes alike. */
const WRITTEN_ALIKE: readonly (readonly [number, number])[] = [
  [1560, 1562], // bit, bit varying
  [1015, 1009], // varchar[], text[]
  [1009, 1015],
  [142, TEXT], // xml
  [TEXT, 114], // json
];
/** Fractions of a second may be cut: time, timetz, interval and the two timestamps. */
const WITH_FRACTIONS: ReadonlySet<number> = new Set([1083, 1266, 1186, TIMESTAMP, TIMESTAMPTZ]);

/**
 * The conversion that is certain to be PostgreSQL's own; null when there is none: then only a copy of the rows tells the values. (A USING
 * clause could make anything of them; PostgreSQL then writes all rows anew, and cdc copies them again.)
 */
export function conversionOf(from: ColumnSchema, to: ColumnSchema): Conversion | null {
  if (from.typeOid === to.typeOid && from.type === to.type) return "kept";
  if (INTEGERS.has(from.typeOid)) return fromInteger(to);
  if (from.typeOid === NUMERIC) return fromNumeric(from, to);
  if (isText(to) && lengthOf(to) === null && !OTHER_AS_TEXT.has(from.typeOid)) return "kept";
  if (isText(from)) return fromText(from, to);
  if (from.typeOid === PG_TYPE.bool && to.typeOid === PG_TYPE.int4) return "boolean-to-number";
  if (WRITTEN_ALIKE.some(([a, b]) => from.typeOid === a && to.typeOid === b)) return to.typmod === -1 ? "kept" : null;
  return fromTime(from, to);
}

const isText = ({ typeOid }: ColumnSchema): boolean => TEXTS.has(typeOid);

/** n of varchar(n). */
export function lengthOf({ type }: ColumnSchema): number | null {
  const digits = /\((\d+)\)$/.exec(type)?.[1];
  return digits === undefined ? null : Number(digits);
}

function fromInteger(to: ColumnSchema): Conversion | null {
  if (INTEGERS.has(to.typeOid) || isText(to)) return "kept";
  if (to.typeOid !== NUMERIC) return null;
  const scale = decimalOf(to)?.scale ?? 0;
  return scale === 0 ? "kept" : scale > 0 ? "decimals" : null;
}

function fromNumeric(from: ColumnSchema, to: ColumnSchema): Conversion | null {
  if (isText(to)) return "kept";
  const scale = decimalOf(from)?.scale ?? null;
  if (INTEGERS.has(to.typeOid)) return scale === 0 ? "kept" : null;
  if (to.typeOid !== NUMERIC) return null;
  const wanted = decimalOf(to);
  if (wanted === null) return "kept";
  if (scale === null || wanted.scale < scale) return null;
  return wanted.scale === scale ? "kept" : "decimals";
}

function fromText(from: ColumnSchema, to: ColumnSchema): Conversion | null {
  // An enum, or another type of main-db's own, reads the text and writes it, or a value would have been refused there; but not all do.
  if (to.typeOid >= FIRST_USER_OID) return null;
  if (!isText(to)) return WRITTEN_ALIKE.some(([a, b]) => from.typeOid === a && to.typeOid === b) ? "kept" : null;
  const [had, wanted] = [lengthOf(from), lengthOf(to)];
  return wanted === null || (had !== null && had <= wanted) ? "kept" : "shortened";
}

function fromTime(from: ColumnSchema, to: ColumnSchema): Conversion | null {
  if (from.typeOid === DATE) return to.typeOid === TIMESTAMP ? "midnight" : null;
  const cuts = to.typmod !== -1 && (from.typmod === -1 || from.typmod > to.typmod);
  if (!WITH_FRACTIONS.has(from.typeOid) || cuts) return null;
  if (from.typeOid === TIMESTAMP && to.typeOid === TIMESTAMPTZ) return "utc-added";
  if (from.typeOid === TIMESTAMPTZ && to.typeOid === TIMESTAMP) return "utc-removed";
  // Fields of an interval can be cut too ("year to month"), and its modifier says both.
  return from.typeOid === to.typeOid && to.typeOid !== 1186 ? "kept" : to.type === "interval" ? "kept" : null;
}
