import type { WireValue } from "@cascade/shared/change-event";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import type { SchemaStep } from "../schema-change.ts";

/** A change of a table, to be made at once. */
export interface TableChangeOptions {
  readonly from: TableSchema;
  readonly to: TableSchema;
  /** What of the way from the one to the other shall be gone. */
  readonly steps: readonly SchemaStep[];
  /** Every row is copied again: values that nobody can convert may be missing until then. */
  readonly rewritten: boolean;
  /** Values that could be converted turned out not to fit: with `rewritten`, they are left out too. */
  readonly unfit: boolean;
  /** The rows go. */
  readonly empties: boolean;
  /** The table's name afterwards, as SQL has it. */
  readonly sqlName: string;
}

/** The steps of a change put together by column, for engines that take them all at once. */
export interface ChangedColumns {
  /** Names of the columns that go. */
  readonly dropped: readonly string[];
  /** In the new schema's order. */
  readonly columns: readonly ColumnChange[];
  readonly dropsKey: boolean;
  /** Names of the new key's columns; null where the key is not changed, or there is none afterwards. */
  readonly newKey: readonly string[] | null;
}

export interface ColumnChange {
  readonly column: ColumnSchema;
  /** The column is new, and older rows have this in it. */
  readonly added: { readonly existing: WireValue } | null;
  /** The name that it has had. */
  readonly oldName: string;
  /** Its old type, under the new name; null where the type stays. */
  readonly oldType: ColumnSchema | null;
  readonly nullability: "set-nullable" | "set-not-null" | null;
  readonly inKey: boolean;
  /** The old key had it. */
  readonly wasInKey: boolean;
}

export function changedColumns(from: TableSchema, to: TableSchema, steps: readonly SchemaStep[]): ChangedColumns {
  const dropped: string[] = [];
  const added = new Map<string, { readonly existing: WireValue }>();
  const oldNames = new Map<string, string>();
  const oldTypes = new Map<string, ColumnSchema>();
  const nullability = new Map<string, "set-nullable" | "set-not-null">();
  let dropsKey = false;
  let newKey: readonly string[] | null = null;
  for (const step of steps) {
    switch (step.kind) {
      case "drop-column":
        dropped.push(step.name);
        break;
      case "rename-columns":
        for (const rename of step.renames) oldNames.set(rename.to, rename.from);
        break;
      case "change-type":
        oldTypes.set(step.to.name, step.from);
        break;
      case "add-column":
        added.set(step.column.name, { existing: step.existing });
        break;
      case "set-nullable":
      case "set-not-null":
        nullability.set(step.column.name, step.kind);
        break;
      case "drop-key":
        dropsKey = true;
        break;
      case "add-key":
        newKey = step.key;
        break;
    }
  }
  const keyBefore = new Set(from.columns.flatMap(({ name, attnum }) => (from.key.includes(name) ? [attnum] : [])));
  const columns = to.columns.map((column) => ({
    column,
    added: added.get(column.name) ?? null,
    oldName: oldNames.get(column.name) ?? column.name,
    oldType: oldTypes.get(column.name) ?? null,
    nullability: nullability.get(column.name) ?? null,
    inKey: to.key.includes(column.name),
    wasInKey: keyBefore.has(column.attnum),
  }));
  return { dropped, columns, dropsKey, newKey };
}
