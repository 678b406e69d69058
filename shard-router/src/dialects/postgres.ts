import type { WireRow, WireValue } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaColumn, ReplicaTable } from "../dialect.ts";
import { type RowShape, type ShapeColumn, setOwn, shapeOf } from "../row-shape.ts";
import { exactText, type RecordColumn, recordColumn, replicaType } from "./postgres-types.ts";
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
import { unsupportedTable } from "./table-names.ts";

/**
 * Whole batches as one JSON text per statement: the fewest bytes for the driver to escape, and one prepared plan whatever the number of
 * rows (docs/decisions/0010).
 */
export const postgresDialect: Dialect = {
  name: "postgres",
  createTable,
  columnsOf,
  render: renderer(writerFor),
};

export const postgresTableName = ({ schema, table }: TableName): string => `${quote(schema)}.${quote(table)}`;

/** Tables of ours on every replica. */
const RESERVED: ReadonlySet<string> = new Set(["progress", "replica", "tables"]);

function columnsOf(schema: TableSchema): readonly ReplicaColumn[] {
  if (schema.schema === "cascade" && RESERVED.has(schema.table)) {
    const advice = `exclude it: ROUTER_TABLES=...,!${formatTableName(schema)}, or CDC_TABLES=...,!cascade.*`;
    throw unsupportedTable(schema, "has the name of a table that the router keeps in the replica", advice);
  }
  if (schema.columns.length === 0) throw unsupportedTable(schema, "has no columns");
  return schema.columns.map((column) => ({ name: column.name, type: replicaType(column) }));
}

function createTable(schema: TableSchema, named: TableName = schema): readonly string[] {
  return [createTableText(postgresTableName(named), schema, columnsOf(schema))];
}

/** A column of the statement's record `x`. */
interface Field extends RecordColumn {
  readonly column: ShapeColumn;
  readonly sql: string;
  /** Of the replica's column. */
  readonly type: string;
}

function writerFor(table: ReplicaTable, run: Run): RunWriter {
  const shape = shapeOf(table.source);
  const key = fieldsOf(table, keyColumns(shape));
  switch (run.kind) {
    case "put":
    case "append": {
      const fields = fieldsOf(table, shape.columns);
      const rows = `OVERRIDING SYSTEM VALUE SELECT ${values(fields)} FROM ${recordset(fields)}`;
      const insert = insertText(run.kind === "put" ? upserted(table) : table, shape.columns, rows);
      const looseKey = key.filter((field) => !field.comparable).map((field) => field.column);
      return rowsWriter(run.kind === "put" ? `${insert} ${onConflictText(shape, looseKey)}` : insert, shape);
    }
    case "patch": {
      const fields = fieldsOf(table, columnsOfSet(shape, run.columnSet));
      const text = updateText(table, assignedFields(fields), recordset(fields), key);
      return rowsWriter(text, shape, "must exist");
    }
    case "delete":
      return rowsWriter(`DELETE FROM ${table.sqlName} AS r USING ${recordset(key)} WHERE ${sameKey(key)}`, shape);
    case "move":
      return moveWriter(table, shape, run.columnSet, key);
    case "remove":
      return removeWriter(table, shape);
    case "truncate": {
      const text = table.referenced ? `DELETE FROM ${table.sqlName}` : `TRUNCATE ${table.sqlName}`;
      return () => ({ text, parameterSets: [[]] });
    }
  }
}

function fieldsOf(table: ReplicaTable, columns: readonly ShapeColumn[], names?: readonly string[]): readonly Field[] {
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const sources = new Map(table.source.columns.map((source) => [source.name, source]));
  return columns.map((column, index) => {
    const source = sources.get(column.name);
    if (source === undefined) throw new TypeError(`${formatTableName(table.source)} has no column ${column.name}`);
    const sql = quote(names?.[index] ?? column.name);
    const type = types.get(column.name) ?? replicaType(source);
    return { ...recordColumn(source, type), column, sql, type };
  });
}

const value = (field: Field): string => field.value(`x.${field.sql}`);
const values = (fields: readonly Field[]): string => fields.map(value).join(", ");
const sameKey = (key: readonly Field[]): string =>
  key.map((field) => `r.${quote(field.column.name)} = ${value(field)}`).join(" AND ");

function recordset(fields: readonly Field[]): string {
  return `json_to_recordset($1::text::json) AS x(${fields.map((field) => `${field.sql} ${field.declared}`).join(", ")})`;
}

function assignedFields(fields: readonly Field[]): readonly Field[] {
  const assigned = new Set(assignedColumns(fields.map((field) => field.column)));
  return fields.filter((field) => assigned.has(field.column));
}

function updateText(table: ReplicaTable, assigned: readonly Field[], from: string, key: readonly Field[]): string {
  const set = assigned.map((field) => `${quote(field.column.name)} = ${value(field)}`).join(", ");
  return `UPDATE ${table.sqlName} AS r SET ${set} FROM ${from} WHERE ${sameKey(key)}`;
}

type RowsRun = Exclude<Run, { kind: "truncate" }>;

function rowsWriter(text: string, shape: RowShape, presence?: "must exist"): RunWriter {
  const json = jsonWriter(shape);
  return (run) => {
    const { rows } = run as RowsRun;
    const parameterSets = [[json(rows)]];
    return presence === undefined ? { text, parameterSets } : { text, parameterSets, mustAffect: rows.length };
  };
}

/** JSON has no -0 for JavaScript to write; PostgreSQL reads it from a string. */
function jsonWriter(shape: RowShape): (rows: readonly WireRow[]) => string {
  const floats = shape.columns.filter((column) => column.kind === "float").map((column) => column.name);
  if (floats.length === 0) return JSON.stringify;
  const signed = (row: WireRow): WireRow => {
    let copy: Record<string, WireValue> | undefined;
    for (const name of floats) {
      if (!Object.is(row[name], -0)) continue;
      copy ??= { ...row };
      setOwn(copy, name, "-0");
    }
    return copy ?? row;
  };
  return (rows) => JSON.stringify(rows.map(signed));
}

/** Old and new key are both needed: the record's columns are numbered, so that no column's name can be in the way. */
function moveWriter(table: ReplicaTable, shape: RowShape, columnSet: string, key: readonly Field[]): RunWriter {
  const columns = columnsOfSet(shape, columnSet);
  const fields = fieldsOf(
    table,
    columns,
    columns.map((_, index) => `new_${index}`),
  );
  const oldKey = fieldsOf(
    table,
    keyColumns(shape),
    key.map((_, index) => `old_${index}`),
  );
  const text = updateText(table, fields, recordset([...oldKey, ...fields]), oldKey);
  const signed = (given: WireValue | undefined) => (Object.is(given, -0) ? "-0" : given);
  return (run) => {
    const { from, rows } = run as Extract<Run, { kind: "move" }>;
    const records = rows.map((row, at) => [
      ...key.map((field, index) => [`old_${index}`, signed(from[at]?.[field.column.name])]),
      ...columns.map((column, index) => [`new_${index}`, signed(row[column.name])]),
    ]);
    const json = JSON.stringify(records.map((entries) => Object.fromEntries(entries)));
    return { text, parameterSets: [[json]], mustAffect: rows.length };
  };
}

/** One of the rows that look exactly like this; tableoid, because the partitions of a table count their ctids each for itself. */
function removeWriter(table: ReplicaTable, shape: RowShape): RunWriter {
  const fields = fieldsOf(table, shape.columns);
  const same = fields.map((field) => {
    const exact = (sql: string): string => (field.comparable ? sql : exactText(field.type, sql));
    return `${exact(`r.${quote(field.column.name)}`)} IS NOT DISTINCT FROM ${exact(value(field))}`;
  });
  const found = `SELECT r.tableoid, r.ctid FROM ${table.sqlName} AS r, ${recordset(fields)} WHERE ${same.join(" AND ")} LIMIT 1`;
  const text = `DELETE FROM ${table.sqlName} WHERE (tableoid, ctid) = (${found})`;
  const json = jsonWriter(shape);
  return (run) => {
    const { rows } = run as RowsRun;
    return { text, parameterSets: rows.map((row) => [json([row])]), mustAffect: rows.length };
  };
}
