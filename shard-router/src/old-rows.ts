import type { ReceivedEvent, WireRow, WireValue } from "@cascade/shared/change-event";
import { type CascadeError, UnsupportedValueError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { floatText } from "./dialects/float-text.ts";
import { malformedEvent, PG_TYPE, setOwn, type WireKind, wireKind } from "./row-shape.ts";

/** Rows of a schema that the replica's table is past, as rows of the one it has. */
export interface OldRows {
  /** The table's schema, with the key that the rows are found by. */
  readonly schema: TableSchema;
  /** They are found by another key than the table's: there is no unique index for a put to go by. */
  readonly otherKey: boolean;
  readonly events: readonly ReceivedEvent[];
}

interface Mapping {
  readonly schema: TableSchema;
  readonly otherKey: boolean;
  readonly columns: readonly MappedColumn[];
  /** Columns that the rows do not have, with what rows from before have in them. */
  readonly added: readonly { readonly name: string; readonly value: WireValue }[];
}

interface MappedColumn {
  readonly from: string;
  readonly to: string;
  readonly convert: ((value: Exclude<WireValue, null>) => WireValue) | null;
}

const mappings = new WeakMap<TableSchema, WeakMap<TableSchema, Mapping>>();

/**
 * Events written under `from`, by attnum, as events of a table that is `to` now. A new row gets what rows from before a column have in
 * it; an update leaves such a column as it is.
 */
export function mapOldRows(from: TableSchema, to: TableSchema, events: readonly ReceivedEvent[]): OldRows {
  const mapping = mappingOf(from, to);
  const { schema, otherKey } = mapping;
  const keyless = from.key.length === 0;
  const mapped = events.map((event) => ({
    ...event,
    // A whole row of a table without a key is what it is found by.
    before: event.before && mapRow(mapping, event.before, keyless),
    after: event.after && mapRow(mapping, event.after, keyless || event.op !== "u"),
  }));
  return { schema, otherKey, events: mapped };
}

function mappingOf(from: TableSchema, to: TableSchema): Mapping {
  const ofFrom = mappings.get(from) ?? new WeakMap<TableSchema, Mapping>();
  mappings.set(from, ofFrom);
  const mapping = ofFrom.get(to) ?? newMapping(from, to);
  ofFrom.set(to, mapping);
  return mapping;
}

function newMapping(from: TableSchema, to: TableSchema): Mapping {
  const old = new Map(from.columns.map((column) => [column.attnum, column]));
  const names = new Map<string, string>();
  const columns: MappedColumn[] = [];
  const added: { name: string; value: WireValue }[] = [];
  for (const column of to.columns) {
    const before = old.get(column.attnum);
    if (before === undefined) added.push({ name: column.name, value: column.missing ?? null });
    else {
      names.set(before.name, column.name);
      columns.push({ from: before.name, to: column.name, convert: conversion(to, before, column) });
    }
  }
  const key = from.key.map((name) => {
    const now = names.get(name);
    if (now === undefined) throw malformedEvent(to, `it is found by column ${name}, which was dropped meanwhile`);
    return now;
  });
  const otherKey = key.length !== to.key.length || key.some((name) => !to.key.includes(name));
  return { schema: otherKey ? { ...to, key } : to, otherKey, columns, added };
}

function mapRow({ columns, added }: Mapping, row: WireRow, complete: boolean): WireRow {
  const mapped: Record<string, WireValue> = {};
  for (const { from, to, convert } of columns) {
    if (!Object.hasOwn(row, from)) continue;
    const value = row[from] as WireValue;
    setOwn(mapped, to, value === null || convert === null ? value : convert(value));
  }
  if (complete) for (const { name, value } of added) setOwn(mapped, name, value);
  return mapped;
}

/** How a value of the column's old type is written under its new one; null: in the same way. What cannot be, throws UNSUPPORTED_VALUE. */
function conversion(table: TableSchema, from: ColumnSchema, to: ColumnSchema): MappedColumn["convert"] {
  const [kind, newKind] = [wireKind(from.typeOid), wireKind(to.typeOid)];
  if (from.typeOid === to.typeOid) return null;
  const refuse = () => unfitValue(table, from, to);
  if ((from.typeOid === PG_TYPE.bytea) !== (to.typeOid === PG_TYPE.bytea))
    return () => {
      throw refuse();
    };
  if (kind === newKind) return null;
  return (value) => {
    const converted = convertKind(newKind, from.typeOid, value);
    if (converted === undefined) throw refuse();
    return converted;
  };
}

const unfitValue = (table: TableSchema, from: ColumnSchema, to: ColumnSchema): CascadeError =>
  new UnsupportedValueError({
    code: "UNSUPPORTED_VALUE",
    verdict: "stop-table",
    message: `a value of table ${formatTableName(table)} from before its column ${to.name} became ${to.type} (it was ${from.type}) is none of that type`,
    advice: "copy the table again (`cdc snapshot` with --replica): what comes before the copy is passed over",
  });

function convertKind(kind: WireKind, typeOid: number, value: Exclude<WireValue, null>): WireValue | undefined {
  switch (kind) {
    case "string":
      return typeof value === "number" && wireKind(typeOid) === "float" ? floatText(value, typeOid) : String(value);
    case "boolean":
      return { true: true, t: true, false: false, f: false }[String(value)];
    case "integer":
    case "float": {
      if (typeof value === "number") return kind === "float" || Number.isInteger(value) ? value : undefined;
      const number = typeof value === "string" && /^-?\d+(?:\.\d+)?$/.test(value) ? Number(value) : Number.NaN;
      const exact = kind === "float" ? Number.isFinite(number) : Number.isSafeInteger(number);
      return exact ? number : undefined;
    }
  }
}
