import { parseTableFilter, type TableFilter } from "@cascade/shared/table-pattern";
import { type Bound, isEmptyRange, parseBound } from "./shard-ranges.ts";

/** ROUTER_SHARD: this replica's part of so many. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Which rows of a table are whose. */
export type ShardRule =
  /** All of it is on every shard. */
  | { readonly kind: "broadcast" }
  /** The row whose columns hash to this shard. */
  | { readonly kind: "hash"; readonly columns: readonly string[] }
  /** The row whose column has one of these values. */
  | { readonly kind: "list"; readonly column: string; readonly values: readonly string[] }
  /** The row whose column is between these, both included; null is open. */
  | { readonly kind: "range"; readonly column: string; readonly from: Bound | null; readonly to: Bound | null };

export interface TableRule {
  readonly tables: TableFilter;
  readonly rule: ShardRule;
}

export interface ShardRules {
  /** As it was written: a replica remembers it. */
  readonly text: string;
  readonly rules: readonly TableRule[];
}

/** Reads `0/4`. Throws SyntaxError. */
export function parseShard(text: string): Shard {
  const match = /^(\d{1,4})\/(\d{1,4})$/.exec(text.trim());
  const [index, count] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || count < 1) throw new SyntaxError("it is not index/count");
  if (index >= count) throw new SyntaxError(`there is no shard ${index} of ${count}: the first is 0, the last ${count - 1}`);
  return { index, count };
}

/**
 * Reads `schema.table=rule`, comma-separated, of which the first that names a table counts; `*` stands for any characters within a part of
 * the name. Rules: `customer_id`, `tenant+id` (hashed), `*` (on every shard), `region:eu|uk` (these values), `id:1000..1999`,
 * `placed_on:2026-01-01..` (from, to, both included). What has a separator in it is put in double quotes. Throws SyntaxError.
 */
export function parseShardRules(text: string): ShardRules {
  if (countOf(text, '"') % 2 === 1) throw new SyntaxError("a double quote is not closed (one within quotes is doubled)");
  const items = splitOutsideQuotes(text, ",").filter((item) => item !== "");
  if (items.length === 0) throw new SyntaxError("no rule given");
  const rules = items.map(parseRule);
  const names = rules.map(({ tables }) => tables.text);
  const again = names.find((name, at) => names.indexOf(name) < at);
  if (again !== undefined) throw new SyntaxError(`${JSON.stringify(again)} is named twice: the second rule would never count`);
  return { text: text.trim(), rules };
}

function parseRule(item: string): TableRule {
  const shown = JSON.stringify(item);
  const [tables = "", rule = "", ...more] = splitOutsideQuotes(item, "=");
  if (tables === "" || rule === "" || more.length > 0)
    throw new SyntaxError(`${shown} is not schema.table=rule (a name or value that holds = goes in double quotes)`);
  if (tables.startsWith("!")) throw new SyntaxError(`${shown} excludes: a table that is named by no rule is hashed by its key`);
  if (/[:+|]/.test(unquotedParts(tables)))
    throw new SyntaxError(`${shown} names a table with : + or | in it: such a part of the name goes in double quotes`);
  return { tables: parseTableFilter(tables), rule: parseShardRule(rule, shown) };
}

function parseShardRule(rule: string, shown: string): ShardRule {
  if (rule === "*") return { kind: "broadcast" };
  const [column = "", ...rest] = splitOutsideQuotes(rule, ":");
  if (rest.length === 0) {
    const columns = splitOutsideQuotes(rule, "+").map((name) => nameOf(name, shown));
    if (new Set(columns).size < columns.length) throw new SyntaxError(`${shown} names a column twice`);
    return { kind: "hash", columns };
  }
  const name = nameOf(column, shown);
  // Further colons are those of a time of day.
  const values = rest.join(":");
  if (unquotedParts(values).includes("..")) return { kind: "range", column: name, ...parseRange(values, shown) };
  if (rest.length > 1) throw new SyntaxError(`${shown} has a second colon: a value that holds one goes in double quotes`);
  return { kind: "list", column: name, values: splitOutsideQuotes(values, "|").map((value) => listedValue(value, shown)) };
}

function parseRange(text: string, shown: string): { readonly from: Bound | null; readonly to: Bound | null } {
  const ends = splitOutsideQuotes(text, "..");
  if (ends.length !== 2) throw new SyntaxError(`${shown} has a range with more than two ends`);
  const [from = null, to = null] = ends.map((end) => {
    if (end === "") return null;
    const bound = parseBound(unquoted(end, shown));
    if (bound !== null) return bound;
    throw new SyntaxError(
      `${shown} has a range that ends at ${JSON.stringify(end)}, which is no number, and no date or time like 2026-01-31 or 2026-01-31 12:00:00 (an end that is open is left out)`,
    );
  });
  if (from === null && to === null) throw new SyntaxError(`${shown} has a range without an end; write * for all rows`);
  if (from !== null && to !== null) {
    if ((from.kind === "number") !== (to.kind === "number"))
      throw new SyntaxError(`${shown} has a range from a number to a date, or from a date to a number`);
    if (isEmptyRange(from, to)) throw new SyntaxError(`${shown} has a range that ends before it begins`);
  }
  return { from, to };
}

const QUOTED = /^"(?:[^"]|"")*"$/s;

/** A column's name. */
function nameOf(text: string, shown: string): string {
  const name = unquoted(text, shown);
  if (name === "") throw new SyntaxError(`${shown} has none of: column, column+column, *, column:value|value, column:from..to`);
  if (!QUOTED.test(text) && /[\s.*|]/.test(text))
    throw new SyntaxError(`${shown} names column ${JSON.stringify(text)}: with a space . * or | in it, it goes in double quotes`);
  return name;
}

/** A listed value: an empty one is not left out by mistake where it stands in quotes. */
function listedValue(text: string, shown: string): string {
  if (text === "") throw new SyntaxError(`${shown} has a value that is empty: the empty text is "", in double quotes`);
  return unquoted(text, shown);
}

function unquoted(text: string, shown: string): string {
  if (QUOTED.test(text)) return text.slice(1, -1).replaceAll('""', '"');
  if (text.includes('"'))
    throw new SyntaxError(
      `${shown} has something beside double quotes: all of a name or value goes in them (one within is doubled)`,
    );
  return text;
}

/** Between the separators, trimmed; what is in double quotes separates nothing. */
function splitOutsideQuotes(text: string, separator: string): readonly string[] {
  const found: string[] = [];
  let from = 0;
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '"') isQuoted = !isQuoted;
    else if (!isQuoted && text.startsWith(separator, at)) {
      found.push(text.slice(from, at).trim());
      from = at + separator.length;
      at = from - 1;
    }
  }
  return [...found, text.slice(from).trim()];
}

const unquotedParts = (text: string): string => text.replaceAll(/"(?:[^"]|"")*"/gs, "");

const countOf = (text: string, character: string): number => text.split(character).length - 1;
