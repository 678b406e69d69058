import type { ChangeEvent, EventTable, EventTransaction, Op } from "./change-event.ts";
import { byteLengthOf, copyBytes, writeJson } from "./json-bytes.ts";
import type { Lsn } from "./lsn.ts";

/** Version of the wire format; `source.version` of every message. History: 1.0.0 first. */
export const WIRE_VERSION = "1.0.0";
const CONNECTOR = "cascade";

/** Parts of the text of events that do not change from row to row, as UTF-8. */
interface TableParts {
  /** `,"source":{ ... "txId":` */
  readonly head: Buffer;
  /** `,"schema_id": ... },"ts_ms":` */
  readonly tail: Buffer;
}

const AFTER = Buffer.from(',"after":');
const NULL = Buffer.from("null");
const NOTHING: Buffer = Buffer.alloc(0);
/** `{"op":"c","before":` */
const BEGINNINGS: Readonly<Record<Op, Buffer>> = beginnings();
const BEGINNING_BYTES = '{"op":"c","before":'.length;
const CLOSING_BRACE = 125;

function beginnings(): Readonly<Record<Op, Buffer>> {
  const of = (op: Op): Buffer => Buffer.from(`{"op":"${op}","before":`);
  return { c: of("c"), u: of("u"), d: of("d"), t: of("t"), r: of("r") };
}

/**
 * Writes the events of one source as message values, UTF-8. This runs for every row of main-db: what does not change from row to row is made
 * once per table and once per transaction, and nothing is made of a row's own bytes but their copy.
 */
export class EventWriter {
  readonly #source: string;
  readonly #tables = new WeakMap<EventTable, TableParts>();
  // Of the last event: the next one is mostly of the same table and transaction.
  #table: EventTable | null = null;
  #transaction: EventTransaction | null = null;
  #isRead = false;
  /** `,"source":{ ... "txId":771,"lsn":` */
  readonly #beforeLsn = new Scratch();
  /** `,"ts_ms": ... ,"snapshot":"false","commit_lsn": ... ,"ordinal":` */
  readonly #afterLsn = new Scratch();
  /** `,"schema_id": ... },"ts_ms":` */
  #tail: Buffer = NOTHING;

  /** @param name the pipeline's name (`KAFKA_TOPIC_PREFIX`), `db` the captured database */
  constructor(name: string, db: string) {
    this.#source = `,"source":{"version":"${WIRE_VERSION}","connector":"${CONNECTOR}","name":${JSON.stringify(name)},"db":${JSON.stringify(db)},"schema":`;
  }

  /** Bytes that `write` writes. */
  sizeOf({ table, transaction, op, before, after, lsn, ordinal }: ChangeEvent, capturedAtMs: number): number {
    this.#frame(table, transaction, op === "r");
    return (
      BEGINNING_BYTES +
      (before === null ? NULL.length : byteLengthOf(before)) +
      AFTER.length +
      (after === null ? NULL.length : byteLengthOf(after)) +
      this.#beforeLsn.length +
      digitsOfLsn(lsn) +
      this.#afterLsn.length +
      digitsOf(ordinal) +
      this.#tail.length +
      digitsOf(capturedAtMs) +
      1
    );
  }

  /** Writes the event at `at`, where there must be room for it; returns the position after it. */
  write(
    { table, transaction, op, before, after, lsn, ordinal }: ChangeEvent,
    capturedAtMs: number,
    into: Buffer,
    at: number,
  ): number {
    this.#frame(table, transaction, op === "r");
    let end = copyAll(BEGINNINGS[op], into, at);
    end = before === null ? copyAll(NULL, into, end) : writeJson(before, into, end);
    end = copyAll(AFTER, into, end);
    end = after === null ? copyAll(NULL, into, end) : writeJson(after, into, end);
    end = this.#beforeLsn.copyTo(into, end);
    end = writeLsn(lsn, into, end);
    end = this.#afterLsn.copyTo(into, end);
    end = writeNumber(ordinal, into, end);
    end = copyAll(this.#tail, into, end);
    end = writeNumber(capturedAtMs, into, end);
    into[end] = CLOSING_BRACE;
    return end + 1;
  }

  #frame(table: EventTable, transaction: EventTransaction, isRead: boolean): void {
    if (table === this.#table && transaction === this.#transaction && isRead === this.#isRead) return;
    const { head, tail } = this.#partsOf(table);
    const { txId, committedAtMs, commitLsn } = transaction;
    this.#beforeLsn.set(head, `${txId},"lsn":`);
    this.#afterLsn.set(NOTHING, `,"ts_ms":${committedAtMs},"snapshot":"${isRead}","commit_lsn":${commitLsn},"ordinal":`);
    this.#tail = tail;
    this.#table = table;
    this.#transaction = transaction;
    this.#isRead = isRead;
  }

  #partsOf(table: EventTable): TableParts {
    let parts = this.#tables.get(table);
    if (parts === undefined) {
      const { schema, table: name, schemaId } = table;
      parts = {
        head: Buffer.from(`${this.#source}${JSON.stringify(schema)},"table":${JSON.stringify(name)},"txId":`),
        tail: Buffer.from(`,"schema_id":${JSON.stringify(schemaId)}${marksOf(table)}},"ts_ms":`),
      };
      this.#tables.set(table, parts);
    }
    return parts;
  }
}

/** A buffer that is written over and over. */
class Scratch {
  #bytes = Buffer.alloc(256);
  length = 0;

  /** @param text of ASCII alone */
  set(beginning: Buffer, text: string): void {
    this.length = beginning.length + text.length;
    if (this.length > this.#bytes.length) this.#bytes = Buffer.alloc(2 * this.length);
    beginning.copy(this.#bytes);
    this.#bytes.write(text, beginning.length, "latin1");
  }

  copyTo(into: Buffer, at: number): number {
    return copyBytes(this.#bytes, 0, this.length, into, at);
  }
}

const copyAll = (bytes: Buffer, into: Buffer, at: number): number => copyBytes(bytes, 0, bytes.length, into, at);

const MAX_SAFE_LSN = BigInt(Number.MAX_SAFE_INTEGER);

const digitsOfLsn = (lsn: Lsn): number => (lsn <= MAX_SAFE_LSN ? digitsOf(Number(lsn)) : String(lsn).length);

const writeLsn = (lsn: Lsn, into: Buffer, at: number): number =>
  lsn <= MAX_SAFE_LSN ? writeNumber(Number(lsn), into, at) : at + into.write(String(lsn), at, "latin1");

/** Of a safe integer that is not negative. */
function digitsOf(value: number): number {
  let digits = 1;
  for (let bound = 10; value >= bound; bound *= 10) digits++;
  return digits;
}

function writeNumber(value: number, into: Buffer, at: number): number {
  const end = at + digitsOf(value);
  let left = value;
  for (let i = end - 1; i >= at; i--) {
    const tenth = Math.floor(left / 10);
    into[i] = 48 + (left - tenth * 10);
    left = tenth;
  }
  return end;
}

function marksOf({ filling, fillingFor, replica, notReplica, snapshotId, movedFrom, movedTo }: EventTable): string {
  const marks = {
    ...{ filling, filling_for: fillingFor, replica, not_replica: notReplica, snapshot_id: snapshotId },
    ...{ moved_from: movedFrom, moved_to: movedTo },
  };
  const json = JSON.stringify(marks); // leaves out what is undefined
  return json === "{}" ? "" : `,${json.slice(1, -1)}`;
}

/** The values as texts, for who has a few. */
export function eventEncoder(name: string, db: string): (event: ChangeEvent, capturedAtMs: number) => string {
  const writer = new EventWriter(name, db);
  return (event, capturedAtMs) => {
    const bytes = Buffer.allocUnsafe(writer.sizeOf(event, capturedAtMs));
    return bytes.toString("utf8", 0, writer.write(event, capturedAtMs, bytes, 0));
  };
}
