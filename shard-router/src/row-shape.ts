import type { WireRow, WireValue } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { type KeyClass, keyClassOf } from "@cascade/shared/key-equality";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";

/** How values of a column come on the wire (contract.md §3). A float may also be "NaN", "Infinity" or "-Infinity". */
export type WireKind = "boolean" | "integer" | "float" | "string";

/** OIDs of PostgreSQL's built-in types that the router tells apart; the same on every server. */
export const PG_TYPE = {
  ...{ bool: 16, bytea: 17, int8: 20, int2: 21, int4: 23, oid: 26, float4: 700, float8: 701, numeric: 1700 },
  ...{ date: 1082, timestamp: 1114, timestamptz: 1184, uuid: 2950 },
} as const;
export const WHOLE_NUMBERS: ReadonlySet<number> = new Set([PG_TYPE.int8, PG_TYPE.int2, PG_TYPE.int4, PG_TYPE.oid]);

export function wireKind(typeOid: number): WireKind {
  switch (typeOid) {
    case PG_TYPE.bool:
      return "boolean";
    case PG_TYPE.int2:
    case PG_TYPE.int4:
      return "integer";
    case PG_TYPE.float4:
    case PG_TYPE.float8:
      return "float";
    default:
      return "string";
  }
}

/** A schema made ready for the per-row work. */
export interface RowShape {
  readonly schema: TableSchema;
  readonly columns: readonly ShapeColumn[];
  readonly key: readonly string[];
  readonly keyClass: KeyClass;
}

export interface ShapeColumn {
  readonly name: string;
  readonly kind: WireKind;
  readonly inKey: boolean;
  /** Every object answers to names such as "constructor": only an own property counts then. */
  readonly inherited: boolean;
}

const shapes = new WeakMap<TableSchema, RowShape>();

export function shapeOf(schema: TableSchema): RowShape {
  let shape = shapes.get(schema);
  if (shape === undefined) {
    const keySet = new Set(schema.key);
    const columns = schema.columns.map(({ name, typeOid }) => ({
      name,
      kind: wireKind(typeOid),
      inKey: keySet.has(name),
      inherited: name in Object.prototype,
    }));
    shape = { schema, columns, key: schema.key, keyClass: keyClassOf(schema) };
    shapes.set(schema, shape);
  }
  return shape;
}

/** Whether the row holds the column; absent means that the source did not send it. */
export function has(row: WireRow, column: ShapeColumn): boolean {
  return column.inherited ? Object.hasOwn(row, column.name) : row[column.name] !== undefined;
}

/**
 * Checks a row against the shape and counts its columns: all of them make a complete row.
 * Throws MALFORMED_EVENT for a column the schema does not have, a value of the wrong kind, or a null in the key.
 */
export function countColumns(shape: RowShape, row: WireRow): number {
  let present = 0;
  for (const column of shape.columns) {
    const value = row[column.name];
    if (value === undefined) continue;
    if (!isOfKind(value, column.kind)) {
      if (!has(row, column)) continue;
      throw malformedEvent(shape.schema, `column ${column.name} holds a ${typeof value} that is not a ${column.kind} value`);
    }
    if (value === null && column.inKey) throw malformedEvent(shape.schema, `key column ${column.name} is null`);
    present++;
  }
  let own = 0;
  for (const _name in row) own++;
  if (own !== present)
    throw malformedEvent(shape.schema, `its schema ${shape.schema.id} has no column ${unknownColumn(shape, row)}`);
  return present;
}

function isOfKind(value: WireValue, kind: WireKind): boolean {
  if (value === null) return true;
  switch (kind) {
    case "string":
      return typeof value === "string";
    case "integer":
      return Number.isInteger(value);
    case "boolean":
      return typeof value === "boolean";
    case "float":
      return Number.isFinite(value) || value === "NaN" || value === "Infinity" || value === "-Infinity";
  }
}

function unknownColumn(shape: RowShape, row: WireRow): string {
  const known = new Set(shape.schema.columns.map((column) => column.name));
  return Object.keys(row).find((name) => !known.has(name)) ?? "of that name";
}

/** Throws MALFORMED_EVENT when a key column is absent. */
export function requireKey(shape: RowShape, row: WireRow): void {
  for (const column of shape.columns) {
    if (column.inKey && !has(row, column)) throw malformedEvent(shape.schema, `key column ${column.name} is missing`);
  }
}

export type KeyText = string | number | boolean;

/** A row's key as a Map key: different for different keys. A single column serves as it is, for it is of one kind in a table. */
export function keyText(shape: RowShape, row: WireRow): KeyText {
  const { key } = shape;
  if (key.length === 1) return keyPart(row[key[0] as string] as KeyText);
  let text = "";
  for (const name of key) {
    const part = String(keyPart(row[name] as KeyText));
    text += `${part.length}:${part}`;
  }
  return text;
}

/** PostgreSQL keeps -0 and 0 apart, a Map does not. */
const keyPart = (value: KeyText): KeyText => (value === 0 && Object.is(value, -0) ? "-0" : value);

/** Which columns a row holds, as a text that is equal for equal sets. */
export function columnSet(shape: RowShape, row: WireRow): string {
  let set = "";
  for (const column of shape.columns) set += has(row, column) ? "1" : "0";
  return set;
}

/** The key columns of a row, alone. */
export function keyRow(shape: RowShape, row: WireRow): WireRow {
  const key: Record<string, WireValue> = {};
  for (const name of shape.key) setOwn(key, name, row[name] as WireValue);
  return key;
}

/** Plain assignment to "__proto__" would set the prototype. */
export function setOwn(row: Record<string, WireValue>, name: string, value: WireValue): void {
  if (name === "__proto__") Object.defineProperty(row, name, { value, enumerable: true, configurable: true, writable: true });
  else row[name] = value;
}

export function malformedEvent(table: TableName, reason: string): CascadeError {
  return new CascadeError({
    code: "MALFORMED_EVENT",
    verdict: "stop-table",
    message: `an event of table ${formatTableName(table)} does not fit its schema: ${reason}`,
    advice:
      "find out who else writes to this topic; when the event is worthless, move the replica's progress (next_offset) past it: this table goes on by itself",
  });
}
