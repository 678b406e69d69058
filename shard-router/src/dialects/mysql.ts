import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import type { Dialect, DialectName, ReplicaColumn, ReplicaTable } from "../dialect.ts";
import { type ShapeColumn, shapeOf } from "../row-shape.ts";
import { mysqlColumnType, parseMysqlType } from "./mysql-types.ts";
import { comparable, mysqlEncoder } from "./mysql-values.ts";
import { type Binder, binderOver, moveWriter, rowsWriter } from "./row-writers.ts";
import {
  assignedColumns,
  columnsOfSet,
  createTableText,
  insertText,
  keyColumns,
  type Run,
  type RunWriter,
  renderer,
} from "./sql.ts";
import { columnsByFoldedName, flatTableName, unsupportedTable } from "./table-names.ts";

/** What MySQL and MariaDB say differently. */
export interface MysqlFlavor {
  readonly name: DialectName;
  /** Of texts: told apart byte by byte, blanks at the end and all. */
  readonly collation: string;
  /** Between VALUES (...) and ON DUPLICATE KEY UPDATE: a name for the new row. */
  readonly newRowAlias: string;
  /** The new row's value of a column, quoted already. */
  readonly newValue: (column: string) => string;
}

export type MysqlDialect = Dialect & Pick<MysqlFlavor, "collation">;

/** A name that no table of anybody's has. */
const NEW_ROW = "`the new row`";

export const mysqlDialect = mysqlFamily({
  name: "mysql",
  collation: "utf8mb4_0900_bin",
  newRowAlias: ` AS ${NEW_ROW}`,
  newValue: (column) => `${NEW_ROW}.${column}`,
});

export const quoteMysql = (identifier: string): string => `\`${identifier.replaceAll("`", "``")}\``;

/**
 * One prepared text per statement, sent with the parameters of all its rows: MariaDB's bulk protocol carries a batch in one packet, and to
 * MySQL the rows are pipelined (docs/decisions/0015).
 */
export function mysqlFamily(flavor: MysqlFlavor): MysqlDialect {
  const columns = (schema: TableSchema): readonly ReplicaColumn[] => columnsOf(schema, flavor.collation);
  return {
    name: flavor.name,
    collation: flavor.collation,
    columnsOf: columns,
    createTable: (schema, named = schema) => [
      `${createTableText(quoteMysql(flatTableName(named)), schema, columns(schema), quoteMysql)} ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE ${flavor.collation}`,
    ],
    render: renderer((table, run) => writerFor(flavor, table, run)),
  };
}

const MAX_NAME = 64;

function columnsOf(schema: TableSchema, collation: string): readonly ReplicaColumn[] {
  checkName(schema, flatTableName(schema), "table");
  for (const { name } of schema.columns) checkName(schema, name, "column");
  columnsByFoldedName(schema, "MySQL", foldName, renameOrExclude(schema));
  return schema.columns.map((column) => {
    const type = mysqlColumnType(schema, column);
    const { base } = parseMysqlType(type);
    if (base === "char") return { name: column.name, type: `${type} CHARACTER SET ascii COLLATE ascii_bin` };
    const isText = base === "varchar" || base === "longtext";
    return { name: column.name, type: isText ? `${type} CHARACTER SET utf8mb4 COLLATE ${collation}` : type };
  });
}

/** Names of columns are compared without regard to case and accents. */
export const foldName = (name: string): string => name.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

const renameOrExclude = (schema: TableSchema): string =>
  `rename it on main-db, or exclude it: ROUTER_TABLES=...,!${formatTableName(schema)}`;

function checkName(schema: TableSchema, name: string, what: "table" | "column"): void {
  if (name.length > MAX_NAME)
    throw unsupportedTable(
      schema,
      `would be the ${what} ${name}: longer than MySQL's ${MAX_NAME} characters`,
      renameOrExclude(schema),
    );
  if (/[ \t-\r]$/.test(name))
    throw unsupportedTable(
      schema,
      `has a ${what} name that ends with white space, which MySQL does not allow`,
      renameOrExclude(schema),
    );
  if (/[\u{10000}-\u{10FFFF}]/u.test(name))
    throw unsupportedTable(
      schema,
      `has a ${what} name with a character beyond U+FFFF, which MySQL does not allow`,
      renameOrExclude(schema),
    );
}

function writerFor(flavor: MysqlFlavor, table: ReplicaTable, run: Run): RunWriter {
  const shape = shapeOf(table.source);
  const key = keyColumns(shape);
  switch (run.kind) {
    case "put":
      return table.hasOtherUnique === true ? putBesideUnique(table) : putWriter(flavor, table);
    case "append":
      return rowsWriter(insertRow(table, shape.columns), binder(table, shape.columns));
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
    case "remove":
      return rowsWriter(
        `DELETE FROM ${table.sqlName} WHERE ${where(table, shape.columns, "<=>")} LIMIT 1`,
        binder(table, shape.columns),
        "must exist",
      );
    case "truncate":
      // TRUNCATE would commit what came before it.
      return () => ({ text: `DELETE FROM ${table.sqlName}`, parameterSets: [[]] });
  }
}

const insertRow = (table: ReplicaTable, columns: readonly ShapeColumn[]): string =>
  insertText(table, columns, `VALUES (${columns.map(() => "?").join(", ")})`, quoteMysql);

/**
 * ON DUPLICATE KEY UPDATE acts on whatever row shares any unique value. None but the key's index was there when the table was looked at; should
 * someone add one, a row with another key is not touched: its key is set to NULL, which the server refuses, but for a column that is
 * AUTO_INCREMENT, where two rows in one's place are refused; that costs half as much time again.
 */
function putWriter({ newRowAlias, newValue }: MysqlFlavor, table: ReplicaTable): RunWriter {
  const { columns, key } = shapeOf(table.source);
  const value = (name: string) => newValue(quoteMysql(name));
  const own = (name: string) => `${table.sqlName}.${quoteMysql(name)}`;
  const same = key.map((name) => `${own(name)} <=> ${value(name)}`).join(" AND ");
  const first = key[0] ?? "";
  const refused = table.numbersKey === true ? "(SELECT 1 UNION SELECT 2)" : "NULL";
  const set = [
    `${quoteMysql(first)} = IF(${same}, ${own(first)}, ${refused})`,
    ...columns.filter(({ inKey }) => !inKey).map(({ name }) => `${quoteMysql(name)} = ${value(name)}`),
  ];
  const text = `${insertRow(table, columns)}${newRowAlias} ON DUPLICATE KEY UPDATE ${set.join(", ")}`;
  return rowsWriter(text, binder(table, columns));
}

/** Beside other unique indexes an upsert of MySQL's does not do: see putWriter. */
function putBesideUnique(table: ReplicaTable): RunWriter {
  const shape = shapeOf(table.source);
  const key = keyColumns(shape);
  const assigned = assignedColumns(shape.columns);
  const update = rowsWriter(updateText(table, assigned, key), binder(table, [...assigned, ...key]));
  const missing = `SELECT ${shape.columns.map(() => "?").join(", ")} FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM ${table.sqlName} WHERE ${where(table, key, "=")})`;
  const insert = rowsWriter(insertText(table, shape.columns, missing, quoteMysql), binder(table, [...shape.columns, ...key]));
  return (run) => [update(run), { ...insert(run), onlyPipelined: true }];
}

const where = (table: ReplicaTable, columns: readonly ShapeColumn[], operator: "=" | "<=>"): string => {
  const types = new Map(table.columns.map(({ name, type }) => [name, type]));
  return columns
    .map(({ name }) => `${quoteMysql(name)} ${operator} ${comparable(parseMysqlType(types.get(name) ?? ""))}`)
    .join(" AND ");
};

function updateText(table: ReplicaTable, assigned: readonly ShapeColumn[], key: readonly ShapeColumn[]): string {
  const set = assigned.map(({ name }) => `${quoteMysql(name)} = ?`).join(", ");
  return `UPDATE ${table.sqlName} SET ${set} WHERE ${where(table, key, "=")}`;
}

const binder = (table: ReplicaTable, columns: readonly ShapeColumn[]): Binder =>
  binderOver(table, columns, (source, type) => mysqlEncoder(table.source, source, parseMysqlType(type)));
