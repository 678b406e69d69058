import type { ReceivedEvent, WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { countColumns, has, keyRow, keyText, malformedEvent, type RowShape, requireKey, shapeOf } from "./row-shape.ts";

/** An intended row change. Rows hold wire values by source column name. */
export type Mutation =
  /** The row with this key is now exactly `row` (every column of the schema), whether it was there or not. */
  | { readonly kind: "put"; readonly row: WireRow }
  /**
   * The row with the key in `row` gets these columns; columns that `row` lacks keep their value (unchanged TOAST). The row must exist,
   * unless it `mayMiss`: its table is being copied, or will be when it is captured again, and the copy brings it.
   */
  | { readonly kind: "patch"; readonly row: WireRow; readonly mayMiss?: true }
  /** No row has this key any more. `key` holds the key columns. */
  | { readonly kind: "delete"; readonly key: WireRow }
  /** The row with key `from` gets the columns of `row`, among them a new key; else as a patch. */
  | { readonly kind: "move"; readonly from: WireRow; readonly row: WireRow; readonly mayMiss?: true }
  | { readonly kind: "truncate" }
  /** Tables without a key: one more row; one row exactly equal to `row` fewer (it must exist, unless it `mayMiss`). */
  | { readonly kind: "append"; readonly row: WireRow }
  | { readonly kind: "remove"; readonly row: WireRow; readonly mayMiss?: true };

/** Rows that hold the keys which a mutation of a table with a key touches. */
export function keysOf(mutation: Mutation): readonly WireRow[] {
  switch (mutation.kind) {
    case "put":
    case "patch":
      return [mutation.row];
    case "delete":
      return [mutation.key];
    case "move":
      return [mutation.from, mutation.row];
    case "truncate":
    case "append":
    case "remove":
      return [];
  }
}

/**
 * What the events, all written under `schema`, mean for the table, in order.
 * Throws CascadeError MALFORMED_EVENT (stop-table), naming table and column, when a row does not fit the schema.
 */
export function toMutations(schema: TableSchema, events: readonly ReceivedEvent[]): Mutation[] {
  const shape = shapeOf(schema);
  const mutations: Mutation[] = [];
  const add = shape.key.length > 0 ? addKeyed : addKeyless;
  for (const event of events) {
    if (event.op === "t") mutations.push({ kind: "truncate" });
    else add(shape, event, mutations);
  }
  return mutations;
}

function addKeyed(shape: RowShape, event: ReceivedEvent, mutations: Mutation[]): void {
  const { op, before } = event;
  if (op === "d") {
    const row = required(shape, before, "before");
    mutations.push({ kind: "delete", key: oldKey(shape, row) });
    return;
  }
  let row = required(shape, event.after, "after");
  let complete = countColumns(shape, row) === shape.columns.length;
  if (!complete) {
    if (op !== "u") throw incomplete(shape, row);
    if (before !== null) {
      // Under REPLICA IDENTITY FULL the old row has the unchanged columns; under any other it may have a key column stored out of line.
      row = { ...before, ...row };
      complete = countColumns(shape, row) === shape.columns.length;
    }
    if (!complete) requireKey(shape, row);
  }
  if (op === "u" && before !== null && changesKey(shape, before, row)) {
    const from = oldKey(shape, before);
    const miss = mayMiss(event);
    if (complete) mutations.push({ kind: "delete", key: from }, { kind: "put", row });
    else {
      // Until the copy is there, a row may have the new key that main-db has deleted since: what told of that is lost.
      if (miss.mayMiss && !isSpeltAnew(shape, before, row)) mutations.push({ kind: "delete", key: keyRow(shape, row) });
      mutations.push({ kind: "move", from, row, ...miss });
    }
    return;
  }
  mutations.push(complete ? { kind: "put", row } : { kind: "patch", row, ...mayMiss(event) });
}

const MAY_MISS = { mayMiss: true } as const;
const mayMiss = ({ marks }: ReceivedEvent): { readonly mayMiss?: true } => (marks?.filling === true ? MAY_MISS : {});

function oldKey(shape: RowShape, before: WireRow): WireRow {
  const columns = countColumns(shape, before);
  requireKey(shape, before);
  return columns === shape.key.length ? before : keyRow(shape, before);
}

function changesKey(shape: RowShape, before: WireRow, after: WireRow): boolean {
  if (shape.key.length > 1) return keyText(shape, before) !== keyText(shape, after);
  const name = shape.key[0] as string;
  return !Object.is(before[name], after[name]);
}

/** The same key, which is written in another way: 1.0 and 1.00. */
function isSpeltAnew({ keyClass }: RowShape, before: WireRow, after: WireRow): boolean {
  return keyClass !== null && keyClass(before) === keyClass(after);
}

function addKeyless(shape: RowShape, event: ReceivedEvent, mutations: Mutation[]): void {
  const { op } = event;
  let before: WireRow | null = null;
  if (op === "u" || op === "d") {
    before = complete(shape, required(shape, event.before, "before"));
    mutations.push({ kind: "remove", row: before, ...mayMiss(event) });
  }
  if (op === "d") return;
  const after = required(shape, event.after, "after");
  mutations.push({ kind: "append", row: complete(shape, before === null ? after : { ...before, ...after }) });
}

function complete(shape: RowShape, row: WireRow): WireRow {
  if (countColumns(shape, row) !== shape.columns.length) throw incomplete(shape, row);
  return row;
}

function required(shape: RowShape, row: WireRow | null, side: "before" | "after"): WireRow {
  if (row === null) throw malformedEvent(shape.schema, `it has no "${side}"`);
  return row;
}

function incomplete(shape: RowShape, row: WireRow): Error {
  const missing = shape.columns.find((column) => !has(row, column));
  return malformedEvent(shape.schema, `column ${missing?.name} is missing, and this event must have every column`);
}
