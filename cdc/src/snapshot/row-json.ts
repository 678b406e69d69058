import type { RowJson } from "@cascade/shared/change-event";

/**
 * Rows as JSON text, cut and put together without parsing a value: no digit may be lost. Only JSON that we made: one object, without
 * blanks between its tokens.
 */

/** Its members in order: each name, and each value's JSON text. */
export function membersOf(row: RowJson): ReadonlyMap<string, string> {
  const members = new Map<string, string>();
  let at = 1;
  while (at < row.length - 1) {
    const nameEnd = endOfText(row, at);
    const valueEnd = endOfValue(row, nameEnd + 1);
    members.set(JSON.parse(row.slice(at, nameEnd)) as string, row.slice(nameEnd + 1, valueEnd));
    at = valueEnd + 1;
  }
  return members;
}

export function rowOf(members: ReadonlyMap<string, string>): RowJson {
  const texts: string[] = [];
  for (const [name, value] of members) texts.push(`${JSON.stringify(name)}:${value}`);
  return `{${texts.join(",")}}`;
}

/** The row with what an update sent of it; null when it sent all of it. */
export function patched(row: RowJson, update: RowJson): RowJson | null {
  const members = new Map(membersOf(row));
  const sent = membersOf(update);
  let all = true;
  for (const name of members.keys()) if (!sent.has(name)) all = false;
  if (all) return null;
  for (const [name, value] of sent) members.set(name, value);
  return rowOf(members);
}

/** The key in a row or in an old row, in the order of the key's columns; null when it is not in there. */
export function keyIn(row: RowJson, key: readonly string[]): RowJson | null {
  const members = membersOf(row);
  const texts: string[] = [];
  for (const name of key) {
    const value = members.get(name);
    if (value === undefined) return null;
    texts.push(`${JSON.stringify(name)}:${value}`);
  }
  return `{${texts.join(",")}}`;
}

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const CLOSING_BRACE = 125;

/** Position after the string that opens at `start`. */
function endOfText(text: string, start: number): number {
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
  throw new SyntaxError("a string of a row does not end");
}

function endOfValue(text: string, start: number): number {
  if (text.charCodeAt(start) === QUOTE) return endOfText(text, start);
  for (let at = start; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === COMMA || char === CLOSING_BRACE) return at;
  }
  throw new SyntaxError("a value of a row does not end");
}
