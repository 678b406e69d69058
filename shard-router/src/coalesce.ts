import type { TableSchema } from "@cascade/shared/table-schema";
import { keysOf, type Mutation } from "./mutation.ts";
import { columnSet, type KeyText, keyRow, keyText, type RowShape, shapeOf } from "./row-shape.ts";

type Move = Extract<Mutation, { kind: "move" }>;
type Patch = Extract<Mutation, { kind: "patch" }>;
type Entry = Extract<Mutation, { kind: "put" | "patch" | "delete" }>;

/**
 * Mutations between two barriers: each key's outcome, and the moves that run before them. Different keys do not see each other, so
 * any order within the segment gives the same table; no two moves share a key.
 */
interface Segment {
  moves: Move[];
  readonly movedKeys: Set<KeyText>;
  readonly outcomes: Map<KeyText, Entry>;
  /** How each key is written in this segment, by its class; empty where only the same text is the same key. */
  readonly spellings: Map<string, KeyText>;
}

/**
 * Fewer mutations with the same effect as `mutations` one by one (toMutations' output for one table, in order): the last change per key
 * wins, patches merge into what is known of their row, a truncate drops what came before it. Between barriers the order is moves,
 * deletes, patches by column set, puts. Consecutive mutations of one kind never share a key, so they can be one statement, unless they
 * are moves: a row that moves on takes several.
 * Mutations of tables without a key keep their order.
 */
export function coalesce(schema: TableSchema, mutations: readonly Mutation[]): Mutation[] {
  const shape = shapeOf(schema);
  let merged: Mutation[] = [];
  const segment: Segment = { moves: [], movedKeys: new Set(), outcomes: new Map(), spellings: new Map() };
  for (const mutation of mutations) {
    if (shape.keyClass !== null && isSpeltAnew(shape, segment, mutation)) flush(shape, segment, merged);
    switch (mutation.kind) {
      case "put":
        segment.outcomes.set(keyText(shape, mutation.row), mutation);
        break;
      case "delete":
        segment.outcomes.set(keyText(shape, mutation.key), mutation);
        break;
      case "patch":
        patch(shape, segment, mutation, merged);
        break;
      case "move":
        move(shape, segment, mutation, merged);
        break;
      case "truncate":
        clear(segment);
        merged = [mutation];
        break;
      case "append":
      case "remove":
        merged.push(mutation);
        break;
    }
  }
  flush(shape, segment, merged);
  return merged;
}

/** Takes note of the mutation's keys; true when one that may be the same was written in another way, so that their order matters. */
function isSpeltAnew(shape: RowShape, segment: Segment, mutation: Mutation): boolean {
  const { keyClass } = shape;
  const keys = keysOf(mutation);
  if (keyClass === null) return false;
  const anew = keys.some((row) => (segment.spellings.get(keyClass(row)) ?? keyText(shape, row)) !== keyText(shape, row));
  if (anew) segment.spellings.clear();
  for (const row of keys) segment.spellings.set(keyClass(row), keyText(shape, row));
  return anew;
}

function patch(shape: RowShape, segment: Segment, mutation: Patch, merged: Mutation[]): void {
  const key = keyText(shape, mutation.row);
  const known = segment.outcomes.get(key);
  if (known === undefined) {
    segment.outcomes.set(key, mutation);
  } else if (known.kind === "delete") {
    // The row cannot be there: let the replica find that out, as it would have one by one.
    flush(shape, segment, merged);
    segment.outcomes.set(key, mutation);
  } else {
    const row = { ...known.row, ...mutation.row };
    // Once one of them has insisted on the row, it was there.
    const mayMiss = known.kind === "patch" && known.mayMiss && mutation.mayMiss;
    segment.outcomes.set(key, mayMiss ? { kind: "patch", row, mayMiss } : { kind: known.kind, row });
  }
}

function move(shape: RowShape, segment: Segment, mutation: Move, merged: Mutation[]): void {
  const from = keyText(shape, mutation.from);
  const to = keyText(shape, mutation.row);
  const known = segment.outcomes.get(from);
  if (known?.kind === "put") {
    segment.outcomes.set(from, { kind: "delete", key: keyRow(shape, mutation.from) });
    segment.outcomes.set(to, { kind: "put", row: { ...known.row, ...mutation.row } });
    return;
  }
  const touched = (key: KeyText) => segment.outcomes.has(key) || segment.movedKeys.has(key);
  if (touched(from) || touched(to)) flush(shape, segment, merged);
  segment.moves.push(mutation);
  segment.movedKeys.add(from).add(to);
}

function flush(shape: RowShape, segment: Segment, merged: Mutation[]): void {
  for (const mutation of groupByColumns(shape, segment.moves)) merged.push(mutation);
  const patches: Patch[] = [];
  for (const outcome of segment.outcomes.values()) {
    if (outcome.kind === "delete") merged.push(outcome);
    else if (outcome.kind === "patch") patches.push(outcome);
  }
  for (const mutation of groupByColumns(shape, patches)) merged.push(mutation);
  for (const outcome of segment.outcomes.values()) {
    if (outcome.kind === "put") merged.push(outcome);
  }
  clear(segment);
}

function clear(segment: Segment): void {
  segment.moves = [];
  segment.movedKeys.clear();
  segment.outcomes.clear();
}

/** The same mutations, those with the same columns (and as sure of their rows) next to each other: one statement each. */
function groupByColumns<T extends Patch | Move>(shape: RowShape, mutations: readonly T[]): readonly T[] {
  if (mutations.length < 2) return mutations;
  const groups = new Map<string, T[]>();
  for (const mutation of mutations) {
    const columns = `${columnSet(shape, mutation.row)}${mutation.mayMiss ?? ""}`;
    const group = groups.get(columns);
    if (group === undefined) groups.set(columns, [mutation]);
    else group.push(mutation);
  }
  return groups.size === 1 ? mutations : [...groups.values()].flat();
}
