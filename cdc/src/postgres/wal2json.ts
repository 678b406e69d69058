import type { JsonBytes } from "@cascade/shared/json-bytes";
import { type Lsn, lsnOf, parseLsn } from "@cascade/shared/lsn";
import { endOfString, hasAt } from "./json-cut.ts";
import { unknownMessage } from "./unknown-message.ts";
import { type WalName, WalNames } from "./wal-names.ts";

/**
 * wal2json format 2, one JSON object per message (facts.md §1.2). Rows are cut, not parsed: the bytes of a value go to Kafka as they are.
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

/** A row change with its two column lists still as positions in its bytes: a `TableDecoder` reads them. */
export interface WalRow {
  readonly action: "I" | "U" | "D" | "T";
  readonly message: JsonBytes;
  readonly lsn: Lsn;
  readonly schema: string;
  readonly table: string;
  /** Position after the table's name: the lists come next, if there is any. */
  readonly listsAt: number;
}

const ACTION = Buffer.from('{"action":"');
const LSN = Buffer.from('"lsn":"');
const SCHEMA = Buffer.from('","schema":');
const TABLE = Buffer.from(',"table":');
const QUOTE = 34;
const SLASH = 47;
const LETTER_L = 108;
const MAX_HALF_DIGITS = 8;

/** Reads messages of one stream, one after the other. */
export class WalReader {
  readonly #names = new WalNames();

  /** Throws CascadeError UNKNOWN_WAL_MESSAGE (fatal) for anything but the messages above. */
  read(message: JsonBytes): WalMessage {
    const { bytes, start, end } = message;
    const action = hasAt(bytes, start, end, ACTION) ? String.fromCharCode(bytes[start + ACTION.length] as number) : undefined;
    switch (action) {
      case "I":
      case "U":
      case "D":
      case "T":
        return this.#readRow(action, message);
      case "B":
      case "C":
        return readBoundary(action, String(message));
      case "M":
        return readMark(String(message));
      default:
        throw unknownMessage(action === undefined ? "it does not begin with an action" : `action ${JSON.stringify(action)}`);
    }
  }

  #readRow(action: WalRow["action"], message: JsonBytes): WalRow {
    const { bytes, end } = message;
    const lsnAt = lsnIn(message);
    const lsnEnd = endOfString(bytes, lsnAt - 1, end) - 1;
    if (!hasAt(bytes, lsnEnd, end, SCHEMA)) throw unknownMessage(`action ${action} without lsn or schema`);
    const nameAt = lsnEnd + SCHEMA.length;
    const { schema, table, length } = this.#names.lastAt(bytes, nameAt, end) ?? this.#readName(action, message, nameAt);
    return { action, message, lsn: readLsn(bytes, lsnAt, lsnEnd), schema, table, listsAt: nameAt + length };
  }

  #readName(action: WalRow["action"], { bytes, end }: JsonBytes, nameAt: number): WalName {
    const schemaEnd = endOfString(bytes, nameAt, end);
    if (!hasAt(bytes, schemaEnd, end, TABLE)) throw unknownMessage(`action ${action} without table`);
    const tableAt = schemaEnd + TABLE.length;
    return this.#names.read(bytes, { nameAt, schemaEnd, tableAt, tableEnd: endOfString(bytes, tableAt, end) });
  }
}

/** Where the text of the row's LSN begins. Before it stand only xid and timestamp, which hold no user text. */
function lsnIn({ bytes, start, end }: JsonBytes): number {
  for (let at = start + ACTION.length; at < end; at++) {
    if (bytes[at] === QUOTE && bytes[at + 1] === LETTER_L && hasAt(bytes, at, end, LSN)) return at + LSN.length;
  }
  throw unknownMessage("a row without lsn or schema");
}

/** PostgreSQL's text of an LSN. */
function readLsn(bytes: Buffer, start: number, end: number): Lsn {
  const slashAt = bytes.indexOf(SLASH, start);
  return lsnOf(readHalf(bytes, start, slashAt), readHalf(bytes, slashAt + 1, end));
}

function readHalf(bytes: Buffer, start: number, end: number): number {
  if (end <= start || end - start > MAX_HALF_DIGITS) throw unknownMessage("a row's lsn is none");
  let half = 0;
  for (let at = start; at < end; at++) {
    const digit = hexDigit(bytes[at] as number);
    if (digit === -1) throw unknownMessage("a row's lsn is none");
    half = half * 16 + digit;
  }
  return half;
}

function hexDigit(char: number): number {
  if (char >= 48 && char <= 57) return char - 48;
  if (char >= 65 && char <= 70) return char - 55;
  return char >= 97 && char <= 102 ? char - 87 : -1;
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
