/**
 * From wal2json's text of a value to the wire's (contract.md §3), both JSON, by cutting and quoting only: a value is never parsed,
 * so no digit can be lost. What wal2json writes for each type: facts.md §1.4.
 */

/** How a value is written on the wire, by its base type. */
export type WireKind = "boolean" | "number" | "bytea" | "text";

/** pg_type OIDs of the types that are not plain text on the wire; they are the same on every server. */
const KIND_OF_TYPE: ReadonlyMap<number, WireKind> = new Map([
  [16, "boolean"], // boolean
  [17, "bytea"], // bytea
  [21, "number"], // smallint
  [23, "number"], // integer
  [700, "number"], // real
  [701, "number"], // double precision
]);

/** Types whose NaN and infinities wal2json before 2.6 writes as `null`: real, double precision, numeric. Not those of domains over them. */
const LOSES_SPECIAL_NUMBERS: ReadonlySet<number> = new Set([700, 701, 1700]);

export const wireKindOf = (baseTypeOid: number): WireKind => KIND_OF_TYPE.get(baseTypeOid) ?? "text";
export const losesSpecialNumbers = (typeOid: number): boolean => LOSES_SPECIAL_NUMBERS.has(typeOid);

const QUOTE = 34;
/** Of null: no other bare value begins with it. */
const LETTER_N = 110;
const MINUS = 45;
const CAPITAL_N = 78;
const CAPITAL_I = 73;
const SPECIAL_NUMBER = /^"(?:NaN|-?Infinity)"$/;

/** Whether a value's wire text is the plugin's as it stands, told by its first byte. A number that comes quoted is not, nor a bare one that is text. */
export function isPlain(kind: WireKind, first: number): boolean {
  switch (kind) {
    case "text":
      return first === QUOTE || first === LETTER_N;
    case "bytea":
      return first === LETTER_N;
    default:
      return first !== QUOTE;
  }
}

/** Whether the number that comes quoted at `start` is none that JSON has: NaN or an infinity. */
export function isSpecialNumber(bytes: Buffer, start: number): boolean {
  const first = bytes[start + 1] === MINUS ? bytes[start + 2] : bytes[start + 1];
  return first === CAPITAL_N || first === CAPITAL_I;
}

/**
 * The wire text of `raw`, wal2json's JSON text of one value. Domains, and every number when the plugin is asked for
 * `numeric-data-types-as-string`, come quoted where the built-in type comes bare: both are read.
 */
export function wireValue(kind: WireKind, raw: string): string {
  switch (kind) {
    case "text":
      return raw.charCodeAt(0) === QUOTE || raw === "null" ? raw : `"${raw}"`;
    case "number":
      return raw.charCodeAt(0) !== QUOTE || SPECIAL_NUMBER.test(raw) ? raw : raw.slice(1, -1);
    case "boolean":
      return raw.charCodeAt(0) !== QUOTE ? raw : raw === '"t"' ? "true" : "false";
    case "bytea":
      return raw === "null" ? raw : base64OfHex(raw);
  }
}

/** The wire value of PostgreSQL's text of a value, as the pinned session writes it. */
export function wireValueOfText(baseTypeOid: number, text: string): string | number | boolean {
  switch (wireKindOf(baseTypeOid)) {
    case "text":
      return text;
    case "number":
      return Number.isFinite(Number(text)) ? Number(text) : text;
    case "boolean":
      return text === "t";
    case "bytea":
      return Buffer.from(text.slice(2), "hex").toString("base64");
  }
}

/** `"00ff"`, or `"\\x00ff"` for a domain over bytea. */
function base64OfHex(raw: string): string {
  const hex = raw.startsWith('"\\\\x') ? raw.slice(4, -1) : raw.slice(1, -1);
  return `"${Buffer.from(hex, "hex").toString("base64")}"`;
}
