import { type Database, SQLiteError } from "bun:sqlite";
import type { TableSchema } from "@cascade/shared/table-schema";
import { quote } from "../dialects/sql.ts";
import { columnText, renameColumnTexts, renameTableTexts } from "../dialects/sqlite-alter.ts";
import { storageClass, storageIn } from "../dialects/sqlite-types.ts";
import { flatTableName, foldAscii } from "../dialects/table-names.ts";
import type { Advance, TableChange } from "../replica.ts";
import { pendingSteps, type SchemaStep } from "../schema-change.ts";
import { advanceProgress } from "./sqlite-progress.ts";
import { type Alter, inTheWay, isEmpty, isRowidName, rebuildTable } from "./sqlite-rebuild.ts";
import { RememberedRows } from "./sqlite-remembered.ts";
import { type FoundTable, findTable, prepareSqliteTable } from "./sqlite-tables.ts";

/** To be called in a transaction that has the write lock: SQLite's DDL is part of it. */
export function changeSqliteTables(database: Database, changes: readonly TableChange[], advance: Advance): void {
  advanceProgress(database, advance);
  const rows = new RememberedRows(database, advance.partition);
  for (const change of changes) changeTable(database, rows, change);
}

function changeTable(database: Database, rows: RememberedRows, change: TableChange): void {
  switch (change.kind) {
    case "create":
      rows.add(change);
      prepareSqliteTable(database, change.schema, change.mayCreate, change.named);
      return;
    case "alter":
      rows.change(change.from, change);
      moveTable(database, change);
      alterTable(database, change);
      prepareSqliteTable(database, change.schema, false, change.named);
      return;
    case "move":
      rows.change(change.from, { ...change.from, named: change.named });
      moveTable(database, change);
      return;
    case "await":
      rows.await(change.from, change.awaiting);
      return;
    case "drop":
      rows.remove(change.from);
      database.run(`DROP TABLE IF EXISTS ${quote(flatTableName(change.from.named))}`);
      return;
    case "release":
      rows.remove(change.from);
      if (findTable(database, flatTableName(change.from.named)) !== null) throw change.otherwise;
  }
}

/** Somebody may have given it its new name already. */
function moveTable(database: Database, { from, named }: Pick<Alter, "from" | "named">): void {
  const [old, name] = [flatTableName(from.named), flatTableName(named)];
  if (findTable(database, old) !== null) ddl(database, from.schema, renameTableTexts(old, name));
}

function alterTable(database: Database, change: Alter): void {
  const { schema, named } = change;
  const name = flatTableName(named);
  const found = findTable(database, name);
  if (found?.kind !== "table") return; // `prepare` says it
  if (change.empties) database.run(`DELETE FROM ${quote(name)}`);
  const names = found.columns.map((column) => column.name);
  const steps = pendingSteps(change.steps, names, foldAscii);
  if (steps.some((step) => needsRebuild(step, found, namesBefore(steps)))) {
    rebuildTable(database, { ...change, steps }, found, (texts) => ddl(database, schema, texts));
    return;
  }
  for (const step of steps) ddl(database, schema, stepTexts(database, schema, name, step));
}

/** What a column is called before the steps, by its name after them: that may be another column's until then. */
function namesBefore(steps: readonly SchemaStep[]): (name: string) => string {
  const renames = steps.flatMap((step) => (step.kind === "rename-columns" ? step.renames : []));
  return (name) => renames.find(({ to }) => foldAscii(to) === foldAscii(name))?.from ?? name;
}

function needsRebuild(step: SchemaStep, { columns, strict }: FoundTable, nameBefore: (name: string) => string): boolean {
  const find = (name: string) => columns.find((column) => foldAscii(column.name) === foldAscii(name));
  switch (step.kind) {
    case "drop-key":
    case "add-key":
      return true;
    case "drop-column":
      return (find(step.name)?.pk ?? 0) > 0;
    case "change-type": {
      const declared = find(nameBefore(step.from.name))?.type.toUpperCase() ?? storageClass(step.from);
      if (declared !== storageClass(step.from)) return storageIn(step.to, declared, strict) === null;
      return storageClass(step.from) !== storageClass(step.to);
    }
    // ALTER TABLE gives a column none of these names.
    case "add-column":
      return isRowidName(step.column.name);
    case "rename-columns":
      return step.renames.some(({ to }) => isRowidName(to));
    case "set-nullable":
    case "set-not-null":
      return false;
  }
}

/** What SQLite does in place. */
function stepTexts(database: Database, schema: TableSchema, name: string, step: SchemaStep): readonly string[] {
  const sqlName = quote(name);
  const alter = `ALTER TABLE ${sqlName}`;
  switch (step.kind) {
    case "drop-column":
      return [`${alter} DROP COLUMN ${quote(step.name)}`];
    case "rename-columns":
      return renameColumnTexts(sqlName, step.renames);
    case "add-column": {
      const notNull = !step.column.nullable && step.existing !== null;
      return [
        `${alter} ADD COLUMN ${columnText(schema, step.column, step.existing, notNull)}`,
        ...strictIfEmpty(database, sqlName, step),
      ];
    }
    case "set-nullable":
      return [`${alter} ALTER COLUMN ${quote(step.column.name)} DROP NOT NULL`];
    case "set-not-null": {
      const column = quote(step.column.name);
      return isEmpty(database, `${sqlName} WHERE ${column} IS NULL`) ? [`${alter} ALTER COLUMN ${column} SET NOT NULL`] : [];
    }
    case "drop-key":
    case "add-key":
    case "change-type":
      return [];
  }
}

function strictIfEmpty(database: Database, sqlName: string, { column, existing }: Extract<SchemaStep, { kind: "add-column" }>) {
  if (column.nullable || existing !== null || !isEmpty(database, sqlName)) return [];
  return [`ALTER TABLE ${sqlName} ALTER COLUMN ${quote(column.name)} SET NOT NULL`];
}

/** SQLite names what stands in the way: an index, a view or a trigger of the replica's own. */
function ddl(database: Database, schema: TableSchema, texts: readonly string[]): void {
  for (const text of texts) {
    try {
      database.run(text);
    } catch (error) {
      if (!(error instanceof SQLiteError) || !/^SQLITE_ERROR/.test(error.code ?? "")) throw error;
      throw inTheWay(schema, error.message);
    }
  }
}
