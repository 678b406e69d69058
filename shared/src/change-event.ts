import { z } from "zod";
import { CascadeError } from "./errors.ts";
import type { JsonBytes } from "./json-bytes.ts";
import type { Lsn, Position } from "./lsn.ts";
import type { TableName } from "./topic.ts";

/**
 * The wire format of row changes (contract.md §3): Debezium's change event without its schema part.
 * cdc holds rows as the JSON it will publish (`CapturedRow`): it cuts it out of wal2json's bytes and never parses a value.
 * The router holds them parsed (`WireRow`).
 */

/** c insert, u update, d delete, t truncate, r row read by a snapshot. */
export const OPS = ["c", "u", "d", "t", "r"] as const;
export type Op = (typeof OPS)[number];

/** A JSON object of wire values by column name, as text. */
export type RowJson = string;
/** The same, as the bytes that are published where the stream has brought it. */
export type CapturedRow = RowJson | JsonBytes;

/** boolean: boolean; smallint, integer, real, double precision: number, or "NaN", "Infinity", "-Infinity"; all else: string; NULL: null. */
export type WireValue = string | number | boolean | null;
export type WireRow = Readonly<Record<string, WireValue>>;

/** What every event of one table shares. */
export interface EventTable extends TableName {
  readonly topic: string;
  readonly schemaId: string;
  /** The table is being copied: the row of an update may not have been, and then the copy brings it. */
  readonly filling?: true;
  /** It is for these replicas alone, comma-separated; absent: for all. */
  readonly fillingFor?: string;
  /** For this replica alone. */
  readonly replica?: string;
  /** For every replica but these, comma-separated. */
  readonly notReplica?: string;
  /** Of the copy that a replica asked for, on the truncate that begins it and on its rows. */
  readonly snapshotId?: string;
  /** Of an update that changed the key: the partition of the old one, which is told of a delete at the same position. */
  readonly movedFrom?: number;
  /** Of that delete, where the update lacks columns: the partition that must have applied it before the row goes. */
  readonly movedTo?: number;
}

/** What every event of one transaction shares. */
export interface EventTransaction {
  readonly txId: number;
  readonly commitLsn: Lsn;
  /** Source commit time, milliseconds since 1970. */
  readonly committedAtMs: number;
}

/** A row change as captured. */
export interface ChangeEvent {
  readonly op: Op;
  readonly table: EventTable;
  readonly transaction: EventTransaction;
  readonly ordinal: number;
  readonly lsn: Lsn;
  /** The message key: key columns in index order; null for a table without a key, and for a truncate. */
  readonly key: CapturedRow | null;
  readonly before: CapturedRow | null;
  readonly after: CapturedRow | null;
}

/** One whose rows are texts. */
export interface OwnedEvent extends ChangeEvent {
  readonly key: RowJson | null;
  readonly before: RowJson | null;
  readonly after: RowJson | null;
}

/** Its rows as texts of their own: what is held for long keeps no buffer of a delivery alive. */
export function withOwnRows(event: ChangeEvent): OwnedEvent {
  const { key, before, after } = event;
  return { ...event, key: textOf(key), before: textOf(before), after: textOf(after) };
}

const textOf = (row: CapturedRow | null): RowJson | null => (row === null ? null : String(row));

/**
 * A Kafka header, whatever its value: something was said of the table in `<prefix>.schemas` that must be read before this message is applied,
 * though its schema is known (`SchemaMarks` of cdc).
 */
export const SCHEMAS_FIRST_HEADER = "cascade.schemas-first";

/** Whom an event is for, and what it belongs to, where that is not the ordinary. */
export interface EventMarks {
  /** The table is being copied: the row of an update may not have been, and then the copy brings it. */
  readonly filling: boolean;
  /** It is for these replicas alone, comma-separated; null: for all. */
  readonly fillingFor: string | null;
  /** For this replica alone. */
  readonly replica: string | null;
  /** For every replica but this one. */
  readonly notReplica: string | null;
  /** Of the copy that a replica asked for, on the truncate that begins it and on its rows. */
  readonly snapshotId: string | null;
  /** Of an update that changed the key: the partition of the old one, which is told of a delete at the same position. */
  readonly movedFrom: number | null;
  /** Of that delete, where the update lacks columns: the partition that must have applied it before the row goes. */
  readonly movedTo: number | null;
}

/** A row change as a router reads it. */
export interface ReceivedEvent extends Position {
  readonly op: Op;
  readonly before: WireRow | null;
  readonly after: WireRow | null;
  readonly schemaId: string;
  readonly committedAtMs: number;
  /** null: an ordinary event. */
  readonly marks: EventMarks | null;
}

const MAX_LSN = 0xffff_ffff_ffff_ffffn;
/** What a JavaScript Date can hold; PostgreSQL's timestamps end far before. */
const MAX_TIME_MS = 8.64e15;

const rowShape = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).nullable();
const envelopeShape = z.object({
  op: z.enum(OPS),
  before: rowShape,
  after: rowShape,
  source: z.object({
    ts_ms: z.number().int().min(-MAX_TIME_MS).max(MAX_TIME_MS),
    commit_lsn: z.union([z.number().int().nonnegative(), z.string()]),
    ordinal: z.number().int().nonnegative(),
    schema_id: z.string().min(1),
    filling: z.boolean().optional(),
    filling_for: z.string().optional(),
    replica: z.string().optional(),
    not_replica: z.string().optional(),
    snapshot_id: z.string().optional(),
    moved_from: z.number().int().nonnegative().optional(),
    moved_to: z.number().int().nonnegative().optional(),
  }),
});

/**
 * Reads a message value. Throws CascadeError MALFORMED_MESSAGE (verdict stop-table) when it is not JSON, not this envelope, or an op
 * without the row it needs; the error never holds the value.
 */
export function decodeChangeEvent(text: string): ReceivedEvent {
  let parsed: Envelope;
  try {
    parsed = JSON.parse(text) as Envelope;
  } catch (error) {
    throw malformed("it is not JSON", error);
  }
  if (!isEnvelope(parsed)) throw malformed(explainEnvelope(parsed));
  const { op, before, after, source } = parsed;
  const lsn = source.commit_lsn;
  return {
    op,
    before,
    after,
    schemaId: source.schema_id,
    committedAtMs: source.ts_ms,
    commitLsn: Number.isSafeInteger(lsn) ? BigInt(lsn) : exactCommitLsn(text),
    ordinal: source.ordinal,
    marks: readMarks(source),
  };
}

const PLACE = /"commit_lsn":(\d{1,20}),"ordinal":(\d{1,15})[,}]/y;

/** The position of an event that `EventWriter` has written, without reading its row; null for any other text. */
export function positionOf(text: string): Position | null {
  PLACE.lastIndex = text.lastIndexOf('"commit_lsn":'); // within a row's text its quotes would be escaped
  const [, commitLsn, ordinal] = (PLACE.lastIndex === -1 ? null : PLACE.exec(text)) ?? [];
  return commitLsn === undefined ? null : { commitLsn: BigInt(commitLsn), ordinal: Number(ordinal) };
}

function readMarks(source: Envelope["source"]): EventMarks | null {
  const { filling, filling_for, replica, not_replica, snapshot_id, moved_from, moved_to } = source;
  const isForAll = filling === undefined && replica === undefined && not_replica === undefined && snapshot_id === undefined;
  if (isForAll && moved_from === undefined && moved_to === undefined) return null;
  return {
    filling: filling === true,
    fillingFor: filling_for ?? null,
    replica: replica ?? null,
    notReplica: not_replica ?? null,
    snapshotId: snapshot_id ?? null,
    movedFrom: moved_from ?? null,
    movedTo: moved_to ?? null,
  };
}

interface Envelope {
  readonly op: Op;
  readonly before: WireRow | null;
  readonly after: WireRow | null;
  readonly source: {
    readonly ts_ms: number;
    readonly commit_lsn: number;
    readonly ordinal: number;
    readonly schema_id: string;
    readonly filling?: boolean;
    readonly filling_for?: string;
    readonly replica?: string;
    readonly not_replica?: string;
    readonly snapshot_id?: string;
    readonly moved_from?: number;
    readonly moved_to?: number;
  };
}

/** The per-row check: cheap, complete for the envelope; row values are checked where they are rendered. */
function isEnvelope(value: Envelope | null): value is Envelope {
  if (typeof value !== "object" || value === null) return false;
  const { op, before, after, source } = value;
  if (!isRow(before) || !isRow(after) || typeof source !== "object" || source === null) return false;
  if (!Number.isInteger(source.commit_lsn) || source.commit_lsn < 0) return false;
  if (!Number.isSafeInteger(source.ordinal) || source.ordinal < 0) return false;
  if (
    !Number.isInteger(source.ts_ms) ||
    Math.abs(source.ts_ms) > MAX_TIME_MS ||
    typeof source.schema_id !== "string" ||
    source.schema_id === "" ||
    !areMarks(source)
  )
    return false;
  switch (op) {
    case "c":
    case "r":
    case "u":
      return after !== null;
    case "d":
      return before !== null;
    case "t":
      return true;
    default:
      return false;
  }
}

const areMarks = ({
  filling,
  filling_for,
  replica,
  not_replica,
  snapshot_id,
  moved_from,
  moved_to,
}: Envelope["source"]): boolean =>
  (filling === undefined || typeof filling === "boolean") &&
  isTextOrAbsent(filling_for) &&
  isTextOrAbsent(replica) &&
  isTextOrAbsent(not_replica) &&
  isTextOrAbsent(snapshot_id) &&
  isPartitionOrAbsent(moved_from) &&
  isPartitionOrAbsent(moved_to);

const isPartitionOrAbsent = (mark: unknown): boolean => mark === undefined || (Number.isSafeInteger(mark) && Number(mark) >= 0);

const isTextOrAbsent = (mark: unknown): boolean => mark === undefined || typeof mark === "string";

const isRow = (row: unknown): boolean => row === null || (typeof row === "object" && !Array.isArray(row));

function explainEnvelope(value: unknown): string {
  const result = envelopeShape.safeParse(value);
  if (!result.success) {
    return result.error.issues
      .slice(0, 3)
      .map((issue) => `${issue.path.join(".") || "the message"}: ${issue.message}`)
      .join("; ");
  }
  return `op "${result.data.op}" came without its ${result.data.op === "d" ? "before" : "after"}`;
}

function malformed(reason: string, cause?: unknown): CascadeError {
  return new CascadeError({
    code: "MALFORMED_MESSAGE",
    verdict: "stop-table",
    message: `a message is not a change event of Cascade: ${reason}`,
    advice:
      "find out who else writes to this topic; when the message is worthless, move the replica's progress (next_offset) past it: this table goes on by itself",
    // JSON.parse quotes the text it failed on: row values, which no log may hold.
    cause: cause instanceof SyntaxError ? undefined : cause,
  });
}

/** Past 2^53 JSON.parse has rounded the LSN: read it again with access to the source text. */
function exactCommitLsn(text: string): Lsn {
  let exact: Lsn | null = null;
  const reviver = function (this: unknown, key: string, value: unknown, context?: { source?: string }): unknown {
    const digits = context?.source ?? "";
    // Whoever else writes to the topic may write 1e300, or more than a position has bits for.
    if (key === "commit_lsn" && typeof value === "number" && /^\d{1,20}$/.test(digits) && "ordinal" in (this as object)) {
      exact = BigInt(digits);
    }
    return value;
  };
  try {
    JSON.parse(text, reviver as (key: string, value: unknown) => unknown);
  } catch (error) {
    throw malformed("it is nested too deeply", error); // for a reviver, which takes stack that reading alone does not
  }
  if (exact === null || exact > MAX_LSN) throw malformed("source.commit_lsn is no LSN");
  return exact;
}
