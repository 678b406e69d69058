import type { WireRow } from "@cascade/shared/change-event";
import { type CascadeError, UnsupportedValueError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaColumn, ReplicaTable, SqlValue } from "../dialect.ts";
import { type ShapeColumn, shapeOf } from "../row-shape.ts";
import {
  assignedColumns,
  columnsOfSet,
  insertText,
  keyColumns,
  onConflictText,
  quote,
  type Run,
  type RunWriter,
  renderer,
  upserted,
} from "./sql.ts";
import { type Encoder, encoderFor, storageClass } from "./sqlite-types.ts";

/** One prepared text per statement, run for every row: an embedded engine has no round trips to save (docs/decisions/0011). */
export const sqliteDialect: Dialect = {
  name: "sqlite",
  createTable,
  columnsOf,
  render: renderer(writerFor),
};

/** SQLite has no schemas. Two tables that get the same name are told apart, and the second refused, by the replica. */
export const sqliteTableName = ({ schema, table }: TableName): string => (schema === "public" ? table : `${schema}_${table}`);

/** SQLite compares names without regard to the case of ASCII letters. */
export const foldName = (name: string): string => name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());

/** What SQLite calls the number of a row, unless a column has the name. */
export const ROWID_NAMES = ["rowid", "_rowid_", "oid"];

function columnsOf(schema: TableSchema): readonly ReplicaColumn[] {
  if (schema.columns.length === 0) throw unsupportedTable(schema, "has no columns");
  const seen = new Map<string, string>();
  for (const { name } of schema.columns) {
    const other = seen.get(foldName(name));
    if (other !== undefined) throw unsupportedTable(schema, `has columns ${other} and ${name}, which SQLite takes for one`);
    seen.set(foldName(name), name);
  }
  if (schema.key.length === 0 && ROWID_NAMES.every((name) => seen.has(name))) {
    throw unsupportedTable(schema, `has no key, and columns ${ROWID_NAMES.join(", ")} that hide SQLite's row number`);
  }
  return schema.columns.map(({ name, typeOid }) => ({ name, type: storageClass(typeOid) }));
}

function unsupportedTable(schema: TableSchema, reason: string): CascadeError {
  return new UnsupportedValueError({
    code: "UNSUPPORTED_TABLE",
    verdict: "stop-table",
    message: `table ${formatTableName(schema)} ${reason}`,
    advice: `exclude it: ROUTER_TABLES=...,!${formatTableName(schema)}`,
  });
}

/** STRICT, so that SQLite refuses what it would else convert. */
function createTable(schema: TableSchema): readonly string[] {
  const lines = columnsOf(schema).map(({ name, type }) => `  ${quote(name)} ${type}`);
  if (schema.key.length > 0) lines.push(`  PRIMARY KEY (${schema.key.map(quote).join(", ")})`);
  return [`CREATE TABLE IF NOT EXISTS ${quote(sqliteTableName(schema))} (\n${lines.join(",\n")}\n) STRICT`];
}

function writerFor(table: ReplicaTable, run: Run): RunWriter {
  const shape = shapeOf(table.source);
  const key = keyColumns(shape);
  switch (run.kind) {
    case "put":
    case "append": {
      const rows = `VALUES (${shape.columns.map(() => "?").join(", ")})`;
      const insert = insertText(run.kind === "put" ? upserted(table) : table, shape.columns, rows);
      return rowsWriter(run.kind === "put" ? `${insert} ${onConflictText(shape)}` : insert, binder(table, shape.columns));
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
  const set = assigned.map(({ name }) => `${quote(name)} = ?`).join(", ");
  return `UPDATE ${table.sqlName} SET ${set} WHERE ${where(table, key, "=")}`;
}

/** The name of the row number that no column of the table hides; columnsOf has made sure of one. */
function rowidName(columns: readonly ShapeColumn[]): string {
  const taken = new Set(columns.map((column) => foldName(column.name)));
  return ROWID_NAMES.find((name) => !taken.has(name)) as string;
}

type Binder = (row: WireRow) => SqlValue[];

function binder(table: ReplicaTable, columns: readonly ShapeColumn[]): Binder {
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const sources = new Map(table.source.columns.map((source) => [source.name, source]));
  const names = columns.map((column) => column.name);
  const encoders: readonly Encoder[] = names.map((name) => {
    const source = sources.get(name);
    if (source === undefined) throw new TypeError(`${formatTableName(table.source)} has no column ${name}`);
    return encoderFor(table.source, source, types.get(name) ?? storageClass(source.typeOid));
  });
  return (row) => {
    const values: SqlValue[] = new Array(names.length);
    for (let index = 0; index < names.length; index++) {
      const value = row[names[index] as string] as SqlValue & (string | number | boolean | null);
      const encode = encoders[index] as Encoder;
      values[index] = encode === null ? value : encode(value);
    }
    return values;
  };
}

function rowsWriter(text: string, bind: Binder, presence?: "must exist"): RunWriter {
  return (run) => {
    const { rows } = run as Exclude<Run, { kind: "truncate" }>;
    const parameterSets = rows.map(bind);
    return presence === undefined ? { text, parameterSets } : { text, parameterSets, mustAffect: rows.length };
  };
}

function moveWriter(text: string, bind: Binder, bindKey: Binder): RunWriter {
  return (run) => {
    const { from, rows } = run as Extract<Run, { kind: "move" }>;
    const parameterSets = rows.map((row, at) => [...bind(row), ...bindKey(from[at] as WireRow)]);
    return { text, parameterSets, mustAffect: rows.length };
  };
}
