import type { TableName } from "./topic.ts";

/** Which tables a service takes. Pure; compiled once, asked once per table, not per row. */
export interface TableFilter {
  readonly text: string;
  readonly includes: readonly TablePattern[];
  readonly excludes: readonly TablePattern[];
  matches(name: TableName): boolean;
}

export interface TablePattern {
  readonly schema: PatternPart;
  readonly table: PatternPart;
}

/** `literal` is the exact name when the part holds no `*`, else null. */
export interface PatternPart {
  readonly literal: string | null;
  readonly regexp: RegExp;
}

/**
 * Compiles comma-separated `schema.table` patterns. `*` stands for any characters within a part, a leading `!` excludes, case counts.
 * A part in double quotes is taken literally (a quote inside is doubled), so that `public."we.ird ""T"" é"` can be named.
 * Exclusions win; when there are only exclusions they apply to `fallback`. Throws SyntaxError naming the faulty pattern.
 */
export function parseTableFilter(text: string, fallback = "*.*"): TableFilter {
  const includes: TablePattern[] = [];
  const excludes: TablePattern[] = [];
  for (const item of splitPatterns(text)) {
    (item.startsWith("!") ? excludes : includes).push(parsePattern(item.replace(/^!/, "").trim(), item));
  }
  if (includes.length === 0 && excludes.length === 0) throw new SyntaxError("no pattern given");
  if (includes.length === 0) includes.push(...splitPatterns(fallback).map((item) => parsePattern(item, item)));
  const hits = (patterns: readonly TablePattern[], name: TableName) =>
    patterns.some((pattern) => pattern.schema.regexp.test(name.schema) && pattern.table.regexp.test(name.table));
  return { text, includes, excludes, matches: (name) => hits(includes, name) && !hits(excludes, name) };
}

/** Splits at commas outside double quotes; empty items are dropped. */
function splitPatterns(text: string): string[] {
  const items = text.match(/(?:"(?:[^"]|"")*"|[^,"]|"(?!.*"))+/gs) ?? [];
  return items.map((item) => item.trim()).filter((item) => item !== "");
}

const PATTERN = /^("(?:[^"]|"")+"|[^".]+)\.("(?:[^"]|"")+"|[^".]+)$/s;

function parsePattern(pattern: string, shown: string): TablePattern {
  const match = PATTERN.exec(pattern);
  if (!match) {
    throw new SyntaxError(
      `${JSON.stringify(shown)} is not schema.table (put a part that holds a dot, comma or quote in double quotes)`,
    );
  }
  return { schema: parsePart(match[1] as string), table: parsePart(match[2] as string) };
}

function parsePart(part: string): PatternPart {
  const quoted = part.startsWith('"');
  const name = quoted ? part.slice(1, -1).replaceAll('""', '"') : part.trim();
  if (quoted || !name.includes("*")) return { literal: name, regexp: exactly(escapeRegExp(name)) };
  return { literal: null, regexp: exactly(name.split("*").map(escapeRegExp).join(".*")) };
}

const exactly = (source: string) => new RegExp(`^${source}$`, "su");
const escapeRegExp = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
