import type { WireRow } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { ReplicaColumn, ReplicaTable, Statement } from "../dialect.ts";
import { keysOf, type Mutation } from "../mutation.ts";
import { columnSet, type KeyText, keyText, type RowShape, type ShapeColumn, shapeOf } from "../row-shape.ts";

/** DML text that the dialects share, and the grouping of mutations into statements. */

export const quote = (identifier: string): string => `"${identifier.replaceAll('"', '""')}"`;

export type Quote = (identifier: string) => string;

/**
 * Of constraints only the key and NOT NULL are mirrored: the others are the source's to enforce, and would only get in the way of its
 * changes.
 */
export function createTableText(
  sqlName: string,
  schema: TableSchema,
  columns: readonly ReplicaColumn[],
  quoted: Quote = quote,
): string {
  const nullable = new Set(schema.columns.filter((column) => column.nullable).map(({ name }) => name));
  const lines = columns.map(({ name, type }) => `  ${quoted(name)} ${type}${nullable.has(name) ? "" : " NOT NULL"}`);
  if (schema.key.length > 0) lines.push(`  PRIMARY KEY (${schema.key.map(quoted).join(", ")})`);
  return `CREATE TABLE IF NOT EXISTS ${sqlName} (\n${lines.join(",\n")}\n)`;
}

/** Consecutive mutations that one statement can carry out. */
export type Run =
  | { readonly kind: "put" | "append"; readonly columnSet: string; readonly rows: WireRow[] }
  | { readonly kind: "patch"; readonly columnSet: string; readonly mayMiss: boolean; readonly rows: WireRow[] }
  | {
      readonly kind: "move";
      readonly columnSet: string;
      readonly mayMiss: boolean;
      readonly from: WireRow[];
      readonly rows: WireRow[];
    }
  | { readonly kind: "delete"; readonly rows: WireRow[] }
  | { readonly kind: "remove"; readonly mayMiss: boolean; readonly rows: WireRow[] }
  | { readonly kind: "truncate" };

/**
 * Cuts mutations where the kind or the set of columns changes, in order, and where a row that the run has already comes again (it moves
 * on, or its key is written in another way): a statement sees each row once. Complete rows have the set "".
 */
export function runsOf(shape: RowShape, mutations: readonly Mutation[]): readonly Run[] {
  const runs: Run[] = [];
  const seen = new Set<KeyText>();
  let last: Run | undefined;
  for (const mutation of mutations) {
    const isPartial = mutation.kind === "patch" || mutation.kind === "move";
    const columns = isPartial ? columnSet(shape, mutation.row) : "";
    const mayMiss = "mayMiss" in mutation && mutation.mayMiss === true;
    // Of other mutations coalescing leaves one per key, unless equal keys may look different.
    const keys =
      mutation.kind === "move" || shape.keyClass !== null ? keysOf(mutation).map((row) => keyClassOrText(shape, row)) : [];
    const comesAgain = keys.some((key) => seen.has(key));
    if (last === undefined || comesAgain || last.kind !== mutation.kind || !isAlike(last, columns, mayMiss)) {
      last = emptyRun(mutation.kind, columns, mayMiss);
      runs.push(last);
      seen.clear();
    }
    for (const key of keys) seen.add(key);
    if (last.kind === "truncate") continue;
    if (last.kind === "move" && mutation.kind === "move") last.from.push(mutation.from);
    if ("row" in mutation) last.rows.push(mutation.row);
    else if (mutation.kind === "delete") last.rows.push(mutation.key);
  }
  return runs;
}

const isAlike = (run: Run, columns: string, mayMiss: boolean): boolean =>
  (!("columnSet" in run) || run.columnSet === columns) && (!("mayMiss" in run) || run.mayMiss === mayMiss);

const keyClassOrText = (shape: RowShape, row: WireRow): KeyText => shape.keyClass?.(row) ?? keyText(shape, row);

function emptyRun(kind: Mutation["kind"], columns: string, mayMiss: boolean): Run {
  switch (kind) {
    case "put":
    case "append":
      return { kind, columnSet: columns, rows: [] };
    case "patch":
      return { kind, columnSet: columns, mayMiss, rows: [] };
    case "move":
      return { kind, columnSet: columns, mayMiss, from: [], rows: [] };
    case "delete":
      return { kind, rows: [] };
    case "remove":
      return { kind, mayMiss, rows: [] };
    case "truncate":
      return { kind };
  }
}

/** Turns runs of one kind and column set into a statement, or several; made once per table and shape, for texts are long and stay the same. */
export type RunWriter = (run: Run) => Statement | readonly Statement[];

/** `render` of a dialect that says how to write each shape of run. */
export function renderer(writerFor: (table: ReplicaTable, run: Run) => RunWriter) {
  const writers = new WeakMap<ReplicaTable, Map<string, RunWriter>>();
  return (table: ReplicaTable, mutations: readonly Mutation[]): readonly Statement[] => {
    let ofTable = writers.get(table);
    if (ofTable === undefined) {
      ofTable = new Map();
      writers.set(table, ofTable);
    }
    const statements: Statement[] = [];
    for (const run of runsOf(shapeOf(table.source), mutations)) {
      const name = "columnSet" in run ? `${run.kind} ${run.columnSet}` : run.kind;
      let writer = ofTable.get(name);
      if (writer === undefined) {
        writer = writerFor(table, run);
        ofTable.set(name, writer);
      }
      const written = writer(run);
      for (const statement of "text" in written ? [written] : written)
        statements.push("mayMiss" in run && run.mayMiss ? withoutPresence(statement) : statement);
    }
    return statements;
  };
}

function withoutPresence({ mustAffect: _, ...statement }: Statement): Statement {
  return statement;
}

/** The columns of a set as columnSet gives it, in schema order. */
export function columnsOfSet(shape: RowShape, set: string): readonly ShapeColumn[] {
  return set === "" ? shape.columns : shape.columns.filter((_, index) => set[index] === "1");
}

export const keyColumns = (shape: RowShape): readonly ShapeColumn[] => {
  const byName = new Map(shape.columns.map((column) => [column.name, column]));
  return shape.key.map((name) => byName.get(name) as ShapeColumn);
};

/** `rows` is what follows the column list: VALUES or SELECT. */
export function insertText(
  { sqlName }: Pick<ReplicaTable, "sqlName">,
  columns: readonly ShapeColumn[],
  rows: string,
  quoted: Quote = quote,
): string {
  return `INSERT INTO ${sqlName} (${columns.map((column) => quoted(column.name)).join(", ")}) ${rows}`;
}

/**
 * The table of an INSERT with `onConflictText`, under another name: in a table called "excluded" that word would mean the row that is
 * there, and nothing would change.
 */
export const upserted = ({ sqlName }: ReplicaTable): { readonly sqlName: string } => ({ sqlName: `${sqlName} AS r` });

/**
 * Makes an INSERT a put, for engines that know ON CONFLICT. `looseKey`: key columns whose equal values may look different, as the
 * numerics 1.0 and 1.00 do, and are then written too.
 */
export function onConflictText(shape: RowShape, looseKey: readonly ShapeColumn[] = []): string {
  const target = `ON CONFLICT (${shape.key.map(quote).join(", ")})`;
  const values = shape.columns.filter((column) => !column.inKey || looseKey.includes(column));
  if (values.length === 0) return `${target} DO NOTHING`;
  return `${target} DO UPDATE SET ${values.map(({ name }) => `${quote(name)} = excluded.${quote(name)}`).join(", ")}`;
}

/** Columns an UPDATE of a patch sets; a patch of nothing but its key sets that, for the row's presence must still show. */
export function assignedColumns(columns: readonly ShapeColumn[]): readonly ShapeColumn[] {
  const values = columns.filter((column) => !column.inKey);
  return values.length > 0 ? values : columns;
}
