/**
 * How a source column's values are compared: `float` and `real` by the number, since each engine writes it in its own way, `boolean` as true
 * or false, `bytea` in hexadecimal, everything else by PostgreSQL's exact text: `integer`s (told apart only because they sort faster),
 * `printed` for char(n), inet and xml, whose cast to text is not the text they are read by.
 */
export type ValueKind = "text" | "printed" | "boolean" | "bytea" | "float" | "real" | "integer";

export interface CanonicalColumn {
  readonly name: string;
  readonly kind: ValueKind;
}

/** A captured table, and how its rows are found again on a replica. */
export interface CanonicalTable {
  readonly schema: string;
  readonly name: string;
  /** The key first, in key order. */
  readonly columns: readonly CanonicalColumn[];
  /** 0 for a table without a key: its rows are a multiset, found by all of their columns. */
  readonly keyLength: number;
}

/** In column order; null is NULL. */
export type CanonicalRow = readonly (string | null)[];

export const isFloat = (kind: ValueKind | undefined): boolean => kind === "float" || kind === "real";

/** The columns that put rows in order. */
export const orderColumns = ({ columns, keyLength }: CanonicalTable): readonly CanonicalColumn[] =>
  keyLength === 0 ? columns : columns.slice(0, keyLength);

/**
 * A number of any engine in JavaScript's shortest text, which no two share. Of a `real` the nearest of 32 bits: engines may write it in
 * different digits.
 */
export function canonicalFloat(value: string | number, kind: ValueKind = "float"): string {
  const number = kind === "real" ? Math.fround(Number(value)) : Number(value);
  return Object.is(number, -0) ? "-0" : String(number);
}

/** The order that readers give rows: NULL first, numbers as such, all else by the bytes of its text. */
export function compareOrder(table: CanonicalTable, one: CanonicalRow, other: CanonicalRow): number {
  for (const [at, { kind }] of orderColumns(table).entries()) {
    const [left, right] = [one[at] ?? null, other[at] ?? null];
    if (left === right) continue;
    if (left === null) return -1;
    if (right === null) return 1;
    const difference = compareValues(kind, left, right);
    if (difference !== 0) return difference;
  }
  return 0;
}

function compareValues(kind: ValueKind, left: string, right: string): number {
  switch (kind) {
    case "integer":
      return BigInt(left) < BigInt(right) ? -1 : 1;
    case "float":
    case "real":
      return compareFloats(left, right);
    default:
      return Buffer.compare(Buffer.from(left), Buffer.from(right));
  }
}

/** As PostgreSQL orders them: NaN is the greatest. Both zeros are equal here, and told apart as values. */
function compareFloats(left: string, right: string): number {
  const [one, other] = [Number(left), Number(right)];
  if (Number.isNaN(one)) return Number.isNaN(other) ? 0 : 1;
  if (Number.isNaN(other)) return -1;
  return Math.sign(one - other) || (one === other ? 0 : one < other ? -1 : 1);
}

/** Why a replica's table with these columns (none: no table) can't be compared, for people; null when it can. */
export function unreadable(table: CanonicalTable, columns: readonly string[]): string | null {
  if (columns.length === 0) return "the replica has no such table";
  const found = new Set(columns.map((name) => name.toLowerCase()));
  const lacking = table.columns.filter(({ name }) => !found.has(name.toLowerCase())).map(({ name }) => name);
  return lacking.length === 0 ? null : `the replica's table has no column ${lacking.join(", ")}`;
}
