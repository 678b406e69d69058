import { parseTableFilter, type TableFilter } from "@cascade/shared/table-pattern";

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
  | { readonly kind: "range"; readonly column: string; readonly from: string | null; readonly to: string | null };

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

/** What stands between separators: anything but these, or a text in double quotes (a quote inside is doubled). */
const WORD = `(?:"(?:[^"]|"")*"|[^",=:+|.\\s][^",=:+|]*?)`;
const HASH = new RegExp(`^${WORD}(?:\\s*\\+\\s*${WORD})*$`, "s");
const RANGE = new RegExp(`^(${WORD}):((?:"(?:[^"]|"")*"|[^"|]+?)?)\\.\\.((?:"(?:[^"]|"")*"|[^"|]+)?)$`, "s");
const LIST = new RegExp(`^(${WORD}):(.+)$`, "s");

/**
 * Reads `schema.table=rule`, comma-separated, of which the first that names a table counts; `*` stands for any characters within a part of
 * the name. Rules: `customer_id`, `tenant+id` (hashed), `*` (on every shard), `region:eu|uk` (these values), `id:1000..1999`,
 * `placed_on:2026-01-01..` (from, to, both included). What has a separator in it is put in double quotes. Throws SyntaxError.
 */
export function parseShardRules(text: string): ShardRules {
  const items = text.match(/(?:"(?:[^"]|"")*"|[^,"])+/gs) ?? [];
  const rules = items
    .map((item) => item.trim())
    .filter((item) => item !== "")
    .map(parseRule);
  if (rules.length === 0) throw new SyntaxError("no rule given");
  return { text: text.trim(), rules };
}

function parseRule(item: string): TableRule {
  const shown = JSON.stringify(item);
  const split = /^((?:"(?:[^"]|"")*"|[^="])+)=(.*)$/s.exec(item);
  if (split === null) throw new SyntaxError(`${shown} is not schema.table=rule`);
  const [, tables = "", rule = ""] = split.map((part) => part.trim());
  if (tables.startsWith("!")) throw new SyntaxError(`${shown} excludes: a table that is named by no rule is hashed by its key`);
  return { tables: parseTableFilter(tables), rule: parseShardRule(rule, shown) };
}

function parseShardRule(rule: string, shown: string): ShardRule {
  if (rule === "*") return { kind: "broadcast" };
  if (HASH.test(rule)) return { kind: "hash", columns: split(rule, "+") };
  const range = RANGE.exec(rule);
  if (range !== null) {
    const [, column = "", from = "", to = ""] = range;
    if (from === "" && to === "") throw new SyntaxError(`${shown} has a range without an end; write * for all rows`);
    const bound = (text: string) => (text === "" ? null : unquoted(text));
    return { kind: "range", column: unquoted(column), from: bound(from), to: bound(to) };
  }
  const list = LIST.exec(rule);
  if (list !== null) return { kind: "list", column: unquoted(list[1] as string), values: split(list[2] as string, "|") };
  throw new SyntaxError(`${shown} has none of: column, column+column, *, column:value|value, column:from..to`);
}

function split(text: string, separator: string): readonly string[] {
  const parts = text.match(new RegExp(`(?:"(?:[^"]|"")*"|[^"\\${separator}])+`, "gs")) ?? [];
  return parts.map((part) => unquoted(part.trim()));
}

const unquoted = (text: string): string => (text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text);
