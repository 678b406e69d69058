import { unknownMessage } from "./unknown-message.ts";

/** Cutting JSON that wal2json has written, in UTF-8: between a position and the end of its message, for the bytes after that are another's. */

const QUOTE = 34;
const COMMA = 44;
const BACKSLASH = 92;
const CLOSING_BRACE = 125;

/** Whether these bytes stand there. */
export function hasAt(bytes: Buffer, at: number, end: number, expected: Buffer): boolean {
  const { length } = expected;
  if (at + length > end) return false;
  for (let i = 0; i < length; i++) if (bytes[at + i] !== expected[i]) return false;
  return true;
}

/** Past this many bytes a search within the engine is faster than a loop (`npm run bench -- --part capture --workload wide`). */
const SHORT_BYTES = 48;

/** Position after the closing quote of the string that opens at `start`. Throws UNKNOWN_WAL_MESSAGE when there is none. */
export function endOfString(bytes: Buffer, start: number, end: number): number {
  if (bytes[start] !== QUOTE) throw unknownMessage("a string is missing");
  const near = Math.min(start + SHORT_BYTES, end);
  let at = start + 1;
  for (; at < near; at++) {
    const char = bytes[at];
    if (char === QUOTE) return at + 1;
    if (char === BACKSLASH) at++;
  }
  return endOfLongString(bytes, at, end);
}

/** @param start where no escape is under way */
function endOfLongString(bytes: Buffer, start: number, end: number): number {
  for (let at = bytes.indexOf(QUOTE, start); at !== -1 && at < end; at = bytes.indexOf(QUOTE, at + 1)) {
    let backslashes = 0;
    while (at - backslashes > start && bytes[at - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
  throw unknownMessage("a string does not end");
}

/** Position after the value that begins at `start`: a string, or a bare number, true, false or null. */
export function endOfValue(bytes: Buffer, start: number, end: number): number {
  if (bytes[start] === QUOTE) return endOfString(bytes, start, end);
  for (let at = start; at < end; at++) {
    const char = bytes[at];
    if (char === COMMA || char === CLOSING_BRACE) return at;
  }
  throw unknownMessage("a value does not end");
}
