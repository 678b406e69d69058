import { createHash } from "node:crypto";
import type { ReceivedEvent, WireRow, WireValue } from "@cascade/shared/change-event";
import { comparePositions, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { Partition } from "./event-consumer.ts";
import { shapeOf } from "./row-shape.ts";

/** What an error tells an operator. */
export interface Cause {
  readonly code: string;
  readonly message: string;
  readonly advice: string;
}

/** A key whose changes are held back, as the replica remembers it (contract.md §4: cascade_held_keys). */
export interface HeldKey {
  readonly partition: Partition;
  /** Of the table and the key's values: the same over renames, and however main-db writes the values. */
  readonly id: string;
  /** Of main-db's table. */
  readonly oid: number;
  /** The key's columns when it was held; see `keyColumns`. */
  readonly columns: string;
  /** The key as JSON, for people. */
  readonly text: string;
  /** The first and the last change that is held back: all in between are. */
  readonly first: Position;
  readonly last: Position;
  /** How many changes these are. */
  readonly events: number;
  /** Why the first of them, or the last try to replay them, was refused. */
  readonly cause: Cause;
  /** Milliseconds since 1970. */
  readonly heldAtMs: number;
}

/** A change of what is held. `from` must be what the replica has, or it is stale (FencedError). */
export type HoldChange =
  | { readonly kind: "hold"; readonly key: HeldKey }
  | { readonly kind: "change"; readonly from: HeldKey; readonly to: HeldKey }
  | { readonly kind: "release"; readonly from: HeldKey };

export interface RowKey {
  readonly id: string;
  readonly text: string;
}

/** Which columns the key has and of what types: where that changes, keys from before are not found again. */
export function keyColumns({ columns, key }: TableSchema): string {
  const byName = new Map(columns.map((column) => [column.name, `${column.attnum}:${column.typeOid}`]));
  return key.map((name) => byName.get(name)).join(",");
}

/**
 * The keys of the rows that an event touches: two where it changes the key, none for a truncate. null when they cannot be read, or when
 * the table has no key.
 */
export function keysOfEvent(schema: TableSchema, { op, before, after }: ReceivedEvent): readonly RowKey[] | null {
  if (op === "t") return [];
  if (schema.key.length === 0) return null;
  const old = before === null ? null : rowKey(schema, before);
  if (op === "d") return old === null ? null : [old];
  // A key column that is stored out of line and unchanged stands in the old row alone.
  const now = after === null ? null : rowKey(schema, op === "u" ? { ...before, ...after } : after);
  if (now === null || (op === "u" && before !== null && old === null)) return null;
  return op !== "u" || old === null || old.id === now.id ? [now] : [old, now];
}

function rowKey(schema: TableSchema, row: WireRow): RowKey | null {
  const shape = shapeOf(schema);
  const key: [string, WireValue][] = [];
  for (const name of schema.key) {
    const value = Object.hasOwn(row, name) ? (row[name] as WireValue | object) : null;
    if (value === null || typeof value === "object") return null;
    key.push([name, value]);
  }
  // Keys that may be equal are one: rather hold back too much.
  const text = shape.keyClass?.(row) ?? key.map(([, value]) => `${String(value).length}:${String(value)}`).join("");
  const id = createHash("sha256").update(`${schema.oid} ${text}`).digest("hex");
  return { id, text: jsonOf(key) };
}

/** Object.fromEntries keeps a column called __proto__. */
const jsonOf = (key: readonly (readonly [string, WireValue])[]): string => JSON.stringify(Object.fromEntries(key));

/** Whether the event at `position` is among those held back of the key. */
export const covers = ({ first, last }: Pick<HeldKey, "first" | "last">, position: Position): boolean =>
  comparePositions(first, position) <= 0 && comparePositions(position, last) <= 0;
