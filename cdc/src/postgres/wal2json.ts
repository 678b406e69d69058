import { CascadeError } from "@cascade/shared/errors";
import { type Lsn, parseLsn } from "@cascade/shared/lsn";

/**
 * wal2json format 2, one JSON object per message (facts.md §1.2). Rows are cut, not parsed: the text of a value goes to Kafka as it is.
 * The order of the fields is fixed in the plugin's source; a message that departs from it is refused, never guessed at.
 */

export type PluginOptions = Readonly<Record<string, string>>;

/** Of the logical messages that are ours. */
export const SNAPSHOT_PREFIX = "cascade.snapshot";
export const DDL_PREFIX = "cascade.ddl";
export const HEARTBEAT_PREFIX = "cascade.heartbeat";
const MESSAGE_PREFIXES = [SNAPSHOT_PREFIX, DDL_PREFIX, HEARTBEAT_PREFIX];

/** What the slot is asked for. `include-types` is off because the plugin writes invalid JSON for some type names (facts.md §1.4). */
export const PLUGIN_OPTIONS: PluginOptions = {
  "format-version": "2",
  "include-xids": "1",
  "include-timestamp": "1",
  "include-lsn": "1",
  "include-types": "0",
  "include-type-oids": "1",
  // Everybody may write messages into the WAL; without prefixes all of them would come.
  "add-msg-prefixes": MESSAGE_PREFIXES.join(","),
};

/** With the option that only wal2json 2.6 and later know; an unknown option is fatal at the start of the stream. */
export const PLUGIN_OPTIONS_2_6: PluginOptions = { ...PLUGIN_OPTIONS, "numeric-data-types-as-string": "1" };

export type WalMessage =
  | { readonly action: "B"; readonly txId: number; readonly commitLsn: Lsn; readonly committedAtMs: number }
  | { readonly action: "C"; readonly endLsn: Lsn }
  | WalRow
  | WalMark;

/** A logical message. */
export interface WalMark {
  readonly action: "M";
  readonly prefix: string;
  readonly content: string;
  readonly transactional: boolean;
  readonly lsn: Lsn;
}

/** A row change with its two column lists still as text positions: a `TableDecoder` reads them. */
export interface WalRow {
  readonly action: "I" | "U" | "D" | "T";
  readonly text: string;
  readonly lsn: Lsn;
  readonly schema: string;
  readonly table: string;
  /** Where the first object of `columns` begins, or -1: inserts and updates have it. */
  readonly columnsAt: number;
}

const HEAD = '{"action":"';
const SCHEMA = '"schema":';
const TABLE = ',"table":';
const COLUMNS = ',"columns":[';

/** Reads one message. Throws CascadeError UNKNOWN_WAL_MESSAGE (fatal) for anything but the messages above. */
export function readWalMessage(text: string): WalMessage {
  const action = text.startsWith(HEAD) ? text[HEAD.length] : undefined;
  switch (action) {
    case "I":
    case "U":
    case "D":
    case "T":
      return readRow(action, text);
    case "B":
    case "C":
      return readBoundary(action, text);
    case "M":
      return readMark(text);
    default:
      throw unknownMessage(action === undefined ? "it does not begin with an action" : `action ${JSON.stringify(action)}`);
  }
}

function readRow(action: WalRow["action"], text: string): WalRow {
  // Before "schema" stand only xid, timestamp and lsn, which hold no user text.
  const schemaAt = text.indexOf(SCHEMA, HEAD.length) + SCHEMA.length;
  const lsnAt = text.indexOf('"lsn":"', HEAD.length) + 7;
  if (schemaAt < SCHEMA.length || lsnAt < 7 || lsnAt > schemaAt) throw unknownMessage(`action ${action} without lsn or schema`);
  const schemaEnd = endOfString(text, schemaAt);
  const tableAt = schemaEnd + TABLE.length;
  if (!text.startsWith(TABLE, schemaEnd)) throw unknownMessage(`action ${action} without table`);
  const tableEnd = endOfString(text, tableAt);
  return {
    action,
    text,
    lsn: parseLsn(text.slice(lsnAt, text.indexOf('"', lsnAt))),
    schema: readString(text, schemaAt, schemaEnd),
    table: readString(text, tableAt, tableEnd),
    columnsAt: text.startsWith(COLUMNS, tableEnd) ? tableEnd + COLUMNS.length : -1,
  };
}

interface BoundaryFields {
  readonly xid?: number;
  readonly timestamp?: string;
  readonly lsn?: string;
  readonly nextlsn?: string;
  readonly prefix?: string;
  readonly content?: string;
  readonly transactional?: boolean;
}

function readObject(text: string): BoundaryFields {
  try {
    return JSON.parse(text) as BoundaryFields;
  } catch {
    throw unknownMessage("it is not JSON");
  }
}

function readBoundary(action: "B" | "C", text: string): WalMessage {
  const { xid, timestamp, lsn, nextlsn } = readObject(text);
  if (xid === undefined || timestamp === undefined || lsn === undefined || nextlsn === undefined) {
    throw unknownMessage(`action ${action} without xid, timestamp, lsn or nextlsn`);
  }
  if (action === "C") return { action, endLsn: parseLsn(nextlsn) };
  return { action, txId: xid, commitLsn: parseLsn(lsn), committedAtMs: parseTimestamp(timestamp) };
}

function readMark(text: string): WalMark {
  const { prefix, content, transactional, lsn } = readObject(text);
  if (prefix === undefined || content === undefined || transactional === undefined || lsn === undefined) {
    throw unknownMessage("action M without prefix, content, transactional or lsn");
  }
  return { action: "M", prefix, content, transactional, lsn: parseLsn(lsn) };
}

const TIMESTAMP = /^(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?\+00$/;

/** PostgreSQL's ISO text of a commit time in UTC (the session is pinned to it), to milliseconds since 1970. */
export function parseTimestamp(text: string): number {
  const match = TIMESTAMP.exec(text);
  if (!match) throw unknownMessage("a commit time that is not ISO in UTC: the session's DateStyle or TimeZone was changed");
  const [, year, month, day, hour, minute, second, fraction = ""] = match;
  const wholeMs = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
  return wholeMs + Number(fraction.padEnd(3, "0").slice(0, 3));
}

/** Position after the closing quote of the JSON string that opens at `start`. Throws when there is none. */
export function endOfString(text: string, start: number): number {
  if (text.charCodeAt(start) !== 34) throw unknownMessage("a string is missing");
  for (let at = text.indexOf('"', start + 1); at !== -1; at = text.indexOf('"', at + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === 92) backslashes++;
    if (backslashes % 2 === 0) return at + 1;
  }
  throw unknownMessage("a string does not end");
}

const readString = (text: string, start: number, end: number): string => {
  const inner = text.slice(start + 1, end - 1);
  return inner.includes("\\") ? (JSON.parse(text.slice(start, end)) as string) : inner;
};

/** `what` describes the message's form; it never quotes its values. */
export function unknownMessage(what: string): CascadeError {
  return new CascadeError({
    code: "UNKNOWN_WAL_MESSAGE",
    verdict: "fatal",
    message: `the slot sent a message that this version of Cascade does not know: ${what}`,
    advice:
      "check that the slot's plugin is wal2json 2.5 or newer and that no other option was forced on it; nothing was confirmed past it, so an upgraded cdc goes on here",
  });
}
