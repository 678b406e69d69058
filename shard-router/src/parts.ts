import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { columnOf, listed, type Ownership } from "./ownership.ts";
import { PG_TYPE, WHOLE_NUMBERS } from "./row-shape.ts";
import type { Bound } from "./shard-ranges.ts";
import type { ShardRule } from "./shard-rules.ts";
import { decimalOf } from "./types/numbers.ts";

/**
 * Parts of a table as sets that can be compared: whether one lies within another, and whether several make up one, with no row twice. Pure.
 * What cannot be proved of any rows that may come is denied.
 */
export type Part =
  /** `everywhere`: as every shard has it, by its rule. */
  | { readonly kind: "all"; readonly everywhere: boolean }
  /** Rows whose hash of `by` leaves `index` when divided by `count`. */
  | { readonly kind: "hash"; readonly by: string; readonly index: number; readonly count: number }
  | { readonly kind: "list"; readonly by: string; readonly values: ReadonlySet<string> }
  /** The values of `by` as whole numbers, both ends included; null is open. */
  | { readonly kind: "range"; readonly by: string; readonly from: bigint | null; readonly to: bigint | null }
  /** A range whose values are no whole numbers: between two of them there may always be another. */
  | { readonly kind: "dense"; readonly by: string; readonly text: string };

/** The replica's part of the table. Throws CascadeError SHARD_KEY where the rules do not fit the table. */
export function partHeld(ownership: Ownership, schema: TableSchema): Part {
  ownership.of(schema);
  return partByRule(ownership, ownership.ruleOf(schema), schema);
}

/** Of tables that no rule names, of which there may be none yet. */
export function partOfOthers({ shard }: Ownership): Part {
  return shard === null || shard.count === 1 ? WHOLE : { kind: "hash", by: "the key", ...shard };
}

const WHOLE: Part = { kind: "all", everywhere: false };

function partByRule({ shard }: Ownership, rule: ShardRule, schema: TableSchema): Part {
  switch (rule.kind) {
    case "broadcast":
      return { kind: "all", everywhere: true };
    case "hash":
      return shard === null || shard.count === 1 ? WHOLE : { kind: "hash", by: JSON.stringify(rule.columns), ...shard };
    case "list": {
      const column = columnOf(schema, rule.column);
      return { kind: "list", by: rule.column, values: new Set(rule.values.map((value) => listed(schema, column, value))) };
    }
    case "range": {
      const scale = scaleOf(columnOf(schema, rule.column));
      if (scale === null) return { kind: "dense", by: rule.column, text: JSON.stringify([rule.from?.text, rule.to?.text]) };
      const end = (bound: Bound | null, side: "from" | "to") => (bound === null ? null : scale(bound, side));
      return { kind: "range", by: rule.column, from: end(rule.from, "from"), to: end(rule.to, "to") };
    }
  }
}

/** Whether every row of `part` is one of `whole`, whatever rows there are. */
export function lies(part: Part, whole: Part): boolean {
  if (whole.kind === "all") return true;
  if (part.kind === "hash" && whole.kind === "hash")
    return part.by === whole.by && part.count % whole.count === 0 && part.index % whole.count === whole.index;
  if (part.kind === "list" && whole.kind === "list") return part.by === whole.by && part.values.isSubsetOf(whole.values);
  if (part.kind === "range" && whole.kind === "range") {
    const isWithin =
      (whole.from === null || (part.from !== null && part.from >= whole.from)) &&
      (whole.to === null || (part.to !== null && part.to <= whole.to));
    return part.by === whole.by && (isWithin || isEmpty(part));
  }
  return part.kind === "dense" && whole.kind === "dense" && part.by === whole.by && part.text === whole.text;
}

export const isSamePart = (one: Part, other: Part): boolean => lies(one, other) && lies(other, one);

/**
 * Why the parts do not make up `whole`, with each of its rows in exactly one of them; null where they do. They may hold other rows besides.
 * `schema`: of the table, for what values it can have.
 */
export function divisionProblem(whole: Part, parts: readonly Part[], schema: TableSchema | null): string | null {
  const [first, ...others] = parts;
  if (first === undefined) return "no part of it is on any";
  if (parts.every(({ kind }) => kind === "all")) {
    const isAnswered =
      parts.length === 1 || (whole.kind === "all" && parts.every((part) => part.kind === "all" && part.everywhere));
    return isAnswered ? null : "all of it would be on each of them, without a rule that says so";
  }
  if (
    others.some((part) => part.kind !== first.kind || byOf(part) !== byOf(first)) ||
    (whole.kind !== "all" && byOf(whole) !== byOf(first))
  )
    return "it is divided otherwise on one than on another";
  switch (first.kind) {
    case "hash":
      return hashProblem(whole, parts as readonly Hash[]);
    case "list":
      return listProblem(whole, parts as readonly List[]);
    case "range":
      return rangeProblem(whole, parts as readonly Range[], schema);
    default:
      return parts.length === 1 && isSamePart(whole, first)
        ? null
        : "between two values of its column there may always be another";
  }
}

type Hash = Extract<Part, { kind: "hash" }>;
type List = Extract<Part, { kind: "list" }>;
type Range = Extract<Part, { kind: "range" }>;

const byOf = (part: Part): string | null => (part.kind === "all" ? null : part.by);

function hashProblem(whole: Part, parts: readonly Hash[]): string | null {
  if (whole.kind !== "all" && whole.kind !== "hash") return "it is divided otherwise on one than on another";
  const { index, count } = whole.kind === "hash" ? whole : { index: 0, count: 1 };
  const within = parts.filter((part) => meets(part, { index, count }));
  // Of three remainders that agree in pairs there is a number with all of them, and it is in two parts.
  const twice = within.some((one, at) => within.slice(at + 1).some((other) => meets(one, other)));
  if (twice) return "some of its rows would be on two of them";
  // Each part's share of the rows: disjoint ones make up the whole when their shares do.
  const common = within.reduce((all, part) => lcm(all, BigInt(part.count)), BigInt(count));
  const shares = within.reduce((sum, part) => sum + common / lcm(BigInt(part.count), BigInt(count)), 0n);
  return shares === common / BigInt(count) ? null : "some of its rows would be on none of them";
}

type Remainder = Pick<Hash, "index" | "count">;
/** Whether a number can have both remainders. */
const meets = (one: Remainder, other: Remainder): boolean => (one.index - other.index) % gcd(one.count, other.count) === 0;
const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
function lcm(a: bigint, b: bigint): bigint {
  let [x, y] = [a, b];
  while (y !== 0n) [x, y] = [y, x % y];
  return (a / x) * b;
}

function listProblem(whole: Part, parts: readonly List[]): string | null {
  if (whole.kind !== "list") return "lists of values never have every value that may come";
  for (const value of whole.values) {
    const on = parts.filter(({ values }) => values.has(value)).length;
    if (on !== 1)
      return on === 0 ? "a value of its column would be on none of them" : "a value of its column would be on two of them";
  }
  return null;
}

function rangeProblem(whole: Part, parts: readonly Range[], schema: TableSchema | null): string | null {
  if (whole.kind === "all") {
    const column = schema?.columns.find(({ name }) => name === byOf(parts[0] as Range));
    // NULL, NaN and the infinities are in no range.
    if (column === undefined || column.nullable || !WHOLE_NUMBERS.has(column.typeOid))
      return "ranges never have every value that may come, such as NULL";
  } else if (whole.kind !== "range") return "it is divided otherwise on one than on another";
  const { from, to } = whole.kind === "range" ? whole : { from: null, to: null };
  const within = parts
    .map((part) => ({ ...part, from: greater(part.from, from), to: lesser(part.to, to) }))
    .filter((part) => !isEmpty(part))
    .toSorted((a, b) => (a.from === b.from ? 0 : a.from === null ? -1 : b.from === null ? 1 : a.from < b.from ? -1 : 1));
  if (isEmpty({ from, to })) return null;
  /** What the next part must begin with; null: the beginning, or, after a part without an end, nothing. */
  let next = from;
  let hasEnd = true;
  for (const part of within) {
    const isBefore = part.from === null ? next !== null : next !== null && part.from < next;
    if (!hasEnd || isBefore) return "a value of its column would be on two of them";
    if (part.from !== next) return "a value of its column would be on none of them";
    hasEnd = part.to !== null;
    next = part.to === null ? null : part.to + 1n;
  }
  const isWhole = within.length > 0 && (to === null ? !hasEnd : next === to + 1n);
  return isWhole ? null : "a value of its column would be on none of them";
}

const isEmpty = ({ from, to }: Pick<Range, "from" | "to">): boolean => from !== null && to !== null && from > to;
const greater = (a: bigint | null, b: bigint | null): bigint | null => (a === null ? b : b === null ? a : a > b ? a : b);
const lesser = (a: bigint | null, b: bigint | null): bigint | null => (a === null ? b : b === null ? a : a < b ? a : b);

/** A range's end as the first, or the last, whole number that is in it. */
type Scale = (bound: Bound, side: "from" | "to") => bigint;

function scaleOf(column: ColumnSchema): Scale | null {
  const { typeOid } = column;
  if (WHOLE_NUMBERS.has(typeOid)) return decimalScale(0);
  if (typeOid === PG_TYPE.numeric) {
    const scale = decimalOf(column)?.scale ?? null;
    return scale === null || scale < 0 ? null : decimalScale(scale);
  }
  if (typeOid === PG_TYPE.date) return ({ text }) => microsecondsOf(text) / DAY_US;
  if (typeOid !== PG_TYPE.timestamp && typeOid !== PG_TYPE.timestamptz) return null;
  // All of a day is in a range that ends with it.
  return ({ kind, text }, side) => microsecondsOf(text) + (kind === "date" && side === "to" ? DAY_US - 1n : 0n);
}

const decimalScale =
  (scale: number): Scale =>
  ({ text }, side) => {
    const [whole = "", fraction = ""] = text.replace("-", "").split(".");
    const size = BigInt(whole + fraction.slice(0, scale).padEnd(scale, "0"));
    const isExact = fraction.length <= scale;
    if (!text.startsWith("-")) return isExact || side === "to" ? size : size + 1n;
    return isExact || side === "from" ? 0n - size : 0n - size - 1n;
  };

const DAY_US = 86_400_000_000n;

/** Of a date or time as `Bound` has it, in UTC. */
function microsecondsOf(text: string): bigint {
  const [date = "", time = "00:00:00"] = text.split(" ");
  const [second = "", fraction = ""] = time.split(".");
  return BigInt(Date.parse(`${date}T${second}Z`)) * 1_000n + BigInt(fraction.padEnd(6, "0"));
}
