import type { EventTable, RowJson } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { TableName } from "@cascade/shared/topic";
import type { RowRange } from "./table-reader.ts";

/** What copies are called that nobody asked for: of tables that were never copied, or whose rows DDL has changed past the WAL. */
export const INITIAL = "initial";

export const WHOLE: RowRange = { from: null, to: null, where: null };
export const isWhole = ({ from, to, where }: RowRange): boolean => from === null && to === null && where === null;

/** One table that is to be copied. */
export interface CopyJob {
  /** Key of the request, or `INITIAL`. */
  readonly request: string;
  readonly oid: number;
  readonly name: TableName;
  /** For this one alone; null: for all. */
  readonly replica: string | null;
  readonly range: RowRange;
}

/** How far a copy is: what is published in Kafka, and stands in `<prefix>.signals`. */
export interface CopyState {
  /** `left`: its table is not captured any more. */
  readonly status: "waiting" | "copying" | "done" | "failed" | "left";
  /** The replicas are to empty the table first: they have rows that nothing told of when they went. */
  readonly empties: boolean;
  /** Key of the last row of the last chunk. */
  readonly after: RowJson | null;
  /** The columns of the table's key when that was written; a copy under another key begins anew. */
  readonly keyShape: string | null;
  /** By chunks: its truncate is published, where it has one. Whole: its truncate and any of its rows may be. */
  readonly begun: boolean;
  /** Its truncate may be published: rows may be missing where it is for until the copy brings them. */
  readonly mayBeEmpty: boolean;
  readonly rows: number;
  readonly estimatedRows: number | null;
  /** Changes of its table up to there are in no topic, and need not be: the copy has them. The slot may tell them again. */
  readonly contains: Lsn | null;
  /** Keys of rows to be read again. */
  readonly reread: readonly RowJson[];
  readonly error: { readonly code: string; readonly message: string; readonly advice: string } | null;
}

export const WAITING: CopyState = {
  status: "waiting",
  empties: false,
  after: null,
  keyShape: null,
  begun: false,
  mayBeEmpty: false,
  rows: 0,
  estimatedRows: null,
  contains: null,
  reread: [],
  error: null,
};

export const LEFT: CopyState = { ...WAITING, status: "left" };

/**
 * How far a table is that is to be copied whole or by chunks, and may have been copied the other way before: a copy by chunks empties what a
 * whole one has begun or has kept changes back for, deletes among them. What was copied by chunks is of no use to a whole one.
 */
export function stateFor(kind: "keyed" | "keyless", state: CopyState): CopyState {
  if (kind === "keyless") {
    const { begun, mayBeEmpty, empties, keyShape } = state;
    const fresh = { after: null, keyShape: null, reread: [], rows: keyShape === null ? state.rows : 0 };
    return { ...state, ...fresh, begun: begun || mayBeEmpty, empties: empties || keyShape !== null };
  }
  const wasWhole = state.keyShape === null && (state.begun || state.contains !== null);
  return wasWhole ? { ...state, begun: false, empties: true, mayBeEmpty: true } : state;
}

export const TABLE_GONE: NonNullable<CopyState["error"]> = {
  code: "TABLE_GONE",
  message: "the table was dropped, or is not captured any more",
  advice: "ask again for what is there",
};

/** The table of the rows of a copy, and of its truncate. */
export function copiedTable(table: EventTable, { replica, request }: CopyJob): EventTable {
  const { schema, table: name, topic, schemaId } = table;
  return { schema, table: name, topic, schemaId, ...(replica === null ? {} : { replica, snapshotId: request }) };
}

/** Nobody could do without it: the copy of a table that was never copied, and one that a replica has asked for to have the whole table. */
export const mustBeDone = ({ request, replica, range }: CopyJob): boolean =>
  request === INITIAL || (replica !== null && isWhole(range));
