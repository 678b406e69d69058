import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaColumn, ReplicaTable } from "../dialect.ts";
import { type ShapeColumn, shapeOf } from "../row-shape.ts";
import { type Binder, binderOver, moveWriter, rowsWriter } from "./row-writers.ts";
import {
  assignedColumns,
  columnsOfSet,
  createTableText,
  insertText,
  keyColumns,
  onConflictText,
  quote,
  type Run,
  type RunWriter,
  renderer,
  upserted,
} from "./sql.ts";
import { encoderFor, storageClass } from "./sqlite-types.ts";
import { columnsByFoldedName, flatTableName, foldAscii, unsupportedTable } from "./table-names.ts";

/** One prepared text per statement, run for every row: an embedded engine has no round trips to save (docs/decisions/0011). */
export const sqliteDialect: Dialect = {
  name: "sqlite",
  createTable,
  columnsOf,
  render: renderer(writerFor),
};

/** What SQLite calls the number of a row, unless a column has the name. */
export const ROWID_NAMES = ["rowid", "_rowid_", "oid"];

function columnsOf(schema: TableSchema): readonly ReplicaColumn[] {
  const seen = columnsByFoldedName(schema, "SQLite", foldAscii);
  if (schema.key.length === 0 && ROWID_NAMES.every((name) => seen.has(name))) {
    throw unsupportedTable(schema, `has no key, and columns ${ROWID_NAMES.join(", ")} that hide SQLite's row number`);
  }
  return schema.columns.map((column) => ({ name: column.name, type: storageClass(column) }));
}

/** STRICT, so that SQLite refuses what it would else convert. */
function createTable(schema: TableSchema, named: TableName = schema): readonly string[] {
  return [`${createTableText(quote(flatTableName(named)), schema, columnsOf(schema))} STRICT`];
}

function writerFor(table: ReplicaTable, run: Run): RunWriter {
  const shape = shapeOf(table.source);
  const key = keyColumns(shape);
  switch (run.kind) {
    case "put":
    case "append": {
      const insert = insertText(
        run.kind === "put" ? upserted(table) : table,
        shape.columns,
        `VALUES (${parameters(table, shape.columns).join(", ")})`,
      );
      const looseKey = key.filter((column) => column.kind === "float");
      return rowsWriter(
        run.kind === "put" ? `${insert} ${onConflictText(shape, looseKey)}` : insert,
        binder(table, shape.columns),
      );
    }
    case "patch": {
      const assigned = assignedColumns(columnsOfSet(shape, run.columnSet));
      return rowsWriter(updateText(table, assigned, key), binder(table, [...assigned, ...key]), "must exist");
    }
    case "move": {
      const columns = columnsOfSet(shape, run.columnSet);
      return moveWriter(updateText(table, columns, key), binder(table, columns), binder(table, key));
    }
    case "delete":
      return rowsWriter(`DELETE FROM ${table.sqlName} WHERE ${where(table, key, "=")}`, binder(table, key));
    case "remove": {
      const rowid = rowidName(shape.columns);
      const found = `SELECT ${rowid} FROM ${table.sqlName} WHERE ${where(table, shape.columns, "IS")} LIMIT 1`;
      const text = `DELETE FROM ${table.sqlName} WHERE ${rowid} = (${found})`;
      return rowsWriter(text, binder(table, shape.columns), "must exist");
    }
    case "truncate":
      return () => ({ text: `DELETE FROM ${table.sqlName}`, parameterSets: [[]] });
  }
}

/** With the table's name: SQLite would take a lone "name" that is no column for a string, and find no row. */
const where = (table: ReplicaTable, columns: readonly ShapeColumn[], operator: "=" | "IS"): string =>
  columns.map(({ name }) => `${table.sqlName}.${quote(name)} ${operator} ?`).join(" AND ");

function updateText(table: ReplicaTable, assigned: readonly ShapeColumn[], key: readonly ShapeColumn[]): string {
  const values = parameters(table, assigned);
  const set = assigned.map(({ name }, index) => `${quote(name)} = ${values[index]}`).join(", ");
  return `UPDATE ${table.sqlName} SET ${set} WHERE ${where(table, key, "=")}`;
}

/** What stores the statement's first parameters. A whole number in a float's column must be a REAL there, for 5 / 2 to be 2.5. */
function parameters(table: ReplicaTable, columns: readonly ShapeColumn[]): readonly string[] {
  const floats = new Set(table.columns.filter(({ type }) => type === "ANY").map(({ name }) => name));
  return columns.map(({ name }, index) => {
    const parameter = `?${index + 1}`;
    return floats.has(name) ? `iif(typeof(${parameter}) = 'text', ${parameter}, CAST(${parameter} AS REAL))` : "?";
  });
}

/** The name of the row number that no column of the table hides; columnsOf has made sure of one. */
function rowidName(columns: readonly ShapeColumn[]): string {
  const taken = new Set(columns.map((column) => foldAscii(column.name)));
  return ROWID_NAMES.find((name) => !taken.has(name)) as string;
}

const binder = (table: ReplicaTable, columns: readonly ShapeColumn[]): Binder =>
  binderOver(table, columns, (source, type) => encoderFor(table.source, source, type));
