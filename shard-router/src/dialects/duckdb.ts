import type { WireRow, WireValue } from "@cascade/shared/change-event";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaColumn, ReplicaTable } from "../dialect.ts";
import { type RowShape, type ShapeColumn, setOwn, shapeOf } from "../row-shape.ts";
import { schemaOf } from "./duckdb-names.ts";
import { duckdbType, type StructField, structField } from "./duckdb-types.ts";
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
import { columnsByFoldedName, foldAscii, unsupportedTable } from "./table-names.ts";

/**
 * Whole batches as one JSON text per statement, which DuckDB reads into structs of the columns' types: one prepared plan whatever the
 * number of rows, and nothing done per value on our side (docs/decisions/0016).
 */
export const duckdbDialect: Dialect = {
  name: "duckdb",
  createTable: (schema, named = schema) => createDuckdbTable(schema, duckdbTableName(named)),
  columnsOf,
  render: renderer(writerFor),
};

export const duckdbTableName = ({ schema, table }: TableName): string => `${quote(schema)}.${quote(table)}`;

/** What DuckDB calls the number of a row, unless a column has the name. */
export const ROWID_NAME = "rowid";

function columnsOf(schema: TableSchema): readonly ReplicaColumn[] {
  const seen = columnsByFoldedName(schema, "DuckDB", foldAscii);
  const hiding = seen.get(ROWID_NAME);
  if (schema.key.length === 0 && hiding !== undefined) {
    throw unsupportedTable(schema, `has no key, and a column ${hiding} that hides DuckDB's row number`);
  }
  return schema.columns.map((column) => ({ name: column.name, type: duckdbType(column) }));
}

/** `sqlName`: where the table's and its schema's name alone would be ambiguous, with the database's in front. */
export function createDuckdbTable(schema: TableSchema, sqlName: string): readonly string[] {
  return [`CREATE SCHEMA IF NOT EXISTS ${schemaOf(sqlName)}`, createTableText(sqlName, schema, columnsOf(schema))];
}

/** A column of the statement's struct. */
interface Field extends StructField {
  readonly column: ShapeColumn;
  /** Its name in the struct and in the JSON. */
  readonly name: string;
}

function writerFor(table: ReplicaTable, run: Run): RunWriter {
  const shape = shapeOf(table.source);
  const key = fieldsOf(table, keyColumns(shape));
  switch (run.kind) {
    case "put":
    case "append": {
      const fields = fieldsOf(table, shape.columns);
      const rows = `SELECT ${fields.map(value).join(", ")} FROM ${structs(fields)}`;
      const insert = insertText(run.kind === "put" ? upserted(table) : table, shape.columns, rows);
      const looseKey = key.filter((field) => !field.comparable).map((field) => field.column);
      return rowsWriter(run.kind === "put" ? `${insert} ${onConflictText(shape, looseKey)}` : insert, fields);
    }
    case "patch": {
      const fields = fieldsOf(table, columnsOfSet(shape, run.columnSet));
      const assigned = new Set(assignedColumns(fields.map((field) => field.column)));
      const set = fields.filter((field) => assigned.has(field.column));
      return rowsWriter(updateText(table, set, structs(fields), key), fields, "must exist");
    }
    case "delete": {
      const text = `DELETE FROM ${table.sqlName} AS r USING ${structs(key)} WHERE ${sameKey(key)}`;
      return rowsWriter(text, key);
    }
    case "move":
      return moveWriter(table, shape, run.columnSet);
    case "remove": {
      const fields = fieldsOf(table, shape.columns);
      return rowsWriter(removeText(table, fields), fields, "must exist");
    }
    case "truncate":
      return () => ({ text: `DELETE FROM ${table.sqlName}`, parameterSets: [[]] });
  }
}

function fieldsOf(table: ReplicaTable, columns: readonly ShapeColumn[], prefix?: string): readonly Field[] {
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  const sources = new Map(table.source.columns.map((source) => [source.name, source]));
  return columns.map((column, index) => {
    const source = sources.get(column.name);
    if (source === undefined) throw new TypeError(`${formatTableName(table.source)} has no column ${column.name}`);
    const name = prefix === undefined ? column.name : `${prefix}_${index}`;
    return { ...structField(table, source, types.get(column.name) ?? duckdbType(source)), column, name };
  });
}

const value = (field: Field): string => field.value(`s.x.${quote(field.name)}`);
const sameKey = (key: readonly Field[]): string =>
  key.map((field) => `r.${quote(field.column.name)} = ${value(field)}`).join(" AND ");

/** Strict: what is missing or no value of its type is an error, and not NULL. */
function structs(fields: readonly Field[]): string {
  const members = fields.map(({ name, declared }) => `${JSON.stringify(name)}:${JSON.stringify(declared)}`);
  const structure = `[{${members.join(",")}}]`.replaceAll("'", "''");
  return `(SELECT unnest(json_transform_strict($1::JSON, '${structure}')) AS x) AS s`;
}

function updateText(table: ReplicaTable, assigned: readonly Field[], from: string, key: readonly Field[]): string {
  const set = assigned.map((field) => `${quote(field.column.name)} = ${value(field)}`).join(", ");
  return `UPDATE ${table.sqlName} AS r SET ${set} FROM ${from} WHERE ${sameKey(key)}`;
}

/** Of the rows that look exactly like one given, as many as it was given times: all in one pass over the table. */
function removeText(table: ReplicaTable, fields: readonly Field[]): string {
  const same = fields.map((field) => {
    const column = `r.${quote(field.column.name)}`;
    return field.comparable
      ? `${column} IS NOT DISTINCT FROM ${value(field)}`
      : `CAST(${column} AS VARCHAR) IS NOT DISTINCT FROM CAST(${value(field)} AS VARCHAR)`;
  });
  const wanted = `(SELECT x, count(*) AS times, row_number() OVER () AS number FROM ${structs(fields)} GROUP BY x) AS s`;
  const found = `SELECT r.${ROWID_NAME} AS id, s.times, row_number() OVER (PARTITION BY s.number) AS nth FROM ${table.sqlName} AS r JOIN ${wanted} ON ${same.join(" AND ")}`;
  return `DELETE FROM ${table.sqlName} WHERE ${ROWID_NAME} IN (SELECT id FROM (${found}) WHERE nth <= times)`;
}

type RowsRun = Exclude<Run, { kind: "truncate" }>;

function rowsWriter(text: string, fields: readonly Field[], presence?: "must exist"): RunWriter {
  const json = jsonWriter(fields);
  return (run) => {
    const { rows } = run as RowsRun;
    const parameterSets = [[json(rows)]];
    return presence === undefined ? { text, parameterSets } : { text, parameterSets, mustAffect: rows.length };
  };
}

/** Rows go as they are but for the few values that DuckDB reads in another form. */
function jsonWriter(fields: readonly Field[]): (rows: readonly WireRow[]) => string {
  const encoded = fields.flatMap(({ column: { name }, encode }) => (encode === null ? [] : [{ name, encode }]));
  if (encoded.length === 0) return JSON.stringify;
  const encode = (row: WireRow): WireRow => {
    let copy: Record<string, WireValue> | undefined;
    for (const { name, encode } of encoded) {
      const given = row[name] as WireValue;
      const wanted = encode(given);
      if (Object.is(wanted, given)) continue;
      copy ??= { ...row };
      setOwn(copy, name, wanted);
    }
    return copy ?? row;
  };
  return (rows) => JSON.stringify(rows.map(encode));
}

/** Old and new key are both needed: the struct's fields are numbered, so that no column's name can be in the way. */
function moveWriter(table: ReplicaTable, shape: RowShape, columnSet: string): RunWriter {
  const fields = fieldsOf(table, columnsOfSet(shape, columnSet), "new");
  const oldKey = fieldsOf(table, keyColumns(shape), "old");
  const text = updateText(table, fields, structs([...oldKey, ...fields]), oldKey);
  const entries = (of: readonly Field[], row: WireRow | undefined) =>
    of.map(({ name, column, encode }) => {
      const given = row?.[column.name] as WireValue;
      return [name, encode === null ? given : encode(given)] as const;
    });
  return (run) => {
    const { from, rows } = run as Extract<Run, { kind: "move" }>;
    const records = rows.map((row, at) => Object.fromEntries([...entries(oldKey, from[at]), ...entries(fields, row)]));
    return { text, parameterSets: [[JSON.stringify(records)]], mustAffect: rows.length };
  };
}
