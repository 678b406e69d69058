import { quoteTableName } from "@cascade/shared/topic";
import type { Change, History, Step, Transaction, Value } from "./histories.ts";
import { identifier, literal, tableName } from "./names.ts";
import { createTable, type OracleColumn, type OracleTable } from "./schemas.ts";

/** SQL of one transaction; `guarded` statements may be refused by a constraint. */
export interface TransactionSql {
  readonly statements: readonly string[];
  readonly guarded: boolean;
  readonly end: Transaction["end"];
}

export interface HistorySql {
  readonly schemas: readonly string[];
  readonly publicTables: readonly string[];
  readonly ddl: readonly string[];
  readonly transactions: readonly TransactionSql[];
}

/** `number` makes every name new. */
export function historySql({ tables, transactions }: History, number: number): HistorySql {
  const names = tables.map((table) => tableName(table.name, number));
  const schemas = [...new Set(names.map(({ schema }) => schema))].filter((schema) => schema !== "public");
  return {
    schemas,
    publicTables: names.flatMap(({ schema, table }) => (schema === "public" ? [table] : [])),
    ddl: [
      ...schemas.map((schema) => `CREATE SCHEMA ${identifier(schema)}`),
      ...tables.flatMap((table, at) => createTable(table, at, number)),
    ],
    transactions: transactions.map(({ steps, guarded, end }) => ({
      guarded,
      end,
      statements: steps.flatMap((given) => stepSql(given, tables, number)),
    })),
  };
}

function stepSql(given: Step, tables: readonly OracleTable[], number: number): readonly string[] {
  if (given.act !== "roll back") return changeSql(given, tables, number);
  const inner = given.changes.flatMap((inside) => changeSql(inside, tables, number));
  // One statement: refused or not, it leaves nothing behind, and its rows are in the WAL.
  const block = inner.map((text) => `  EXECUTE ${literal(text)};`).join("\n");
  return [doBlock("outer", `BEGIN\n${block}\n  RAISE SQLSTATE 'ORACL';\nEXCEPTION WHEN SQLSTATE 'ORACL' THEN NULL;\nEND`)];
}

const doBlock = (tag: string, body: string): string => `DO $${tag}$${body}$${tag}$`;

function changeSql(
  { act, row, other, table: at, values }: Change,
  tables: readonly OracleTable[],
  number: number,
): readonly string[] {
  const table = tables[at % tables.length];
  if (table === undefined) return [];
  const name = quoteTableName(tableName(table.name, number));
  const picked = (position: number): string =>
    `ctid = (SELECT ctid FROM ${name} ORDER BY ctid OFFSET (SELECT ${position} % greatest(count(*), 1) FROM ${name}) LIMIT 1)`;
  const keyOf = (wanted: boolean): readonly number[] =>
    table.columns.flatMap((_, index) => (table.key.includes(index) === wanted ? [index] : []));
  const updates = (positions: readonly number[], where: string): readonly string[] => {
    const set = assignments(table, positions, values);
    return set.length === 0 ? [] : [`UPDATE ${name} SET ${set.join(", ")}${where}`];
  };
  switch (act) {
    case "insert":
      return [insertSql(name, table, values)];
    case "upsert":
      return [`${insertSql(name, table, values)}${onConflict(table, values, row)}`];
    case "update":
      return updates(keyOf(false), ` WHERE ${picked(row)}`);
    case "update all":
      return updates(keyOf(false), "");
    case "rekey":
      return updates([...table.columns.keys()], ` WHERE ${picked(row)}`);
    case "move":
      return updates(keyOf(true), ` WHERE ${picked(row)}`);
    case "swap unique":
      return table.unique === null
        ? []
        : [swapUnique(name, table.columns[table.unique.column], table.unique.deferrable, picked(row), picked(other))];
    case "swap keys":
      return swapKeys(name, table, row, other);
    case "copy":
      return table.key.length > 0 ? [] : [copySql(name, table, row)];
    case "delete":
      return [`DELETE FROM ${name} WHERE ${picked(row)}`];
    case "delete key":
      return deleteKey(name, table, row);
    case "truncate": {
      const names = tables.map(({ name: also }) => quoteTableName(tableName(also, number)));
      return [`TRUNCATE ${other < 5 ? names.join(", ") : name}`];
    }
  }
}

/** A value of a column as SQL. Of the long ones there are two: an update may leave one alone, or replace it. */
function valueSql(column: OracleColumn, pick: number): string {
  const { long } = column.type;
  if (column.long && long !== undefined && pick % 3 > 0) return long(`repeat('0123456789abcdef', ${150 + (pick % 2) * 40})`);
  const text = column.palette[pick % column.palette.length];
  return text === undefined ? "DEFAULT" : literal(text);
}

/** A condition; of a bare literal PostgreSQL does not always know the type. */
function isValue(column: OracleColumn, pick: number): string {
  const { comparedAs } = column.type;
  const name = identifier(column.name);
  const left = comparedAs === undefined ? name : `CAST(${name} AS ${comparedAs})`;
  return `${left} = CAST(${valueSql(column, pick)} AS ${comparedAs ?? bareType(column)})`;
}
const bareType = ({ type }: OracleColumn): string => type.sql.replace(/ COLLATE .*/, "");

function assignments(table: OracleTable, positions: readonly number[], values: readonly Value[]): readonly string[] {
  return positions.flatMap((at) => {
    const column = table.columns[at];
    const given = values[at];
    if (column === undefined || given === undefined || column.made === "generated") return [];
    switch (given.kind) {
      case "keep":
      case "default":
        return [];
      case "null":
        return column.notNull || column.made === "identity" ? [] : [`${identifier(column.name)} = NULL`];
      case "pick":
        return [`${identifier(column.name)} = ${valueSql(column, given.pick)}`];
    }
    return given.kind satisfies never;
  });
}

function insertSql(name: string, table: OracleTable, values: readonly Value[]): string {
  const columns = table.columns.flatMap((column, at) => (column.made === "generated" ? [] : [{ column, given: values[at] }]));
  const row = columns.map(({ column, given }) => {
    if (given === undefined || column.made === "identity")
      return given?.kind === "pick" ? valueSql(column, given.pick) : "DEFAULT";
    if ((given.kind === "null" || given.kind === "default") && !column.notNull) return given.kind.toUpperCase();
    return valueSql(column, given.pick);
  });
  if (columns.length === 0) return `INSERT INTO ${name} DEFAULT VALUES`;
  return `INSERT INTO ${name} (${columns.map(({ column }) => identifier(column.name)).join(", ")}) VALUES (${row.join(", ")})`;
}

function onConflict(table: OracleTable, values: readonly Value[], row: number): string {
  // A deferrable constraint can be no arbiter.
  const deferrable = table.unique?.deferrable === true;
  if (table.key.length === 0 || (row % 3 === 0 && !deferrable)) return deferrable ? "" : " ON CONFLICT DO NOTHING";
  const others = [...table.columns.keys()].filter((at) => !table.key.includes(at));
  const set = assignments(table, others, values);
  const key = table.key.map((at) => identifier(table.columns[at]?.name ?? "")).join(", ");
  return set.length === 0 ? ` ON CONFLICT (${key}) DO NOTHING` : ` ON CONFLICT (${key}) DO UPDATE SET ${set.join(", ")}`;
}

/** One row more that looks like another. */
function copySql(name: string, table: OracleTable, row: number): string {
  const columns = table.columns
    .filter(({ made }) => made !== "generated")
    .map((column) => identifier(column.name))
    .join(", ");
  return `INSERT INTO ${name} (${columns}) SELECT ${columns} FROM ${name} ORDER BY ctid LIMIT ${1 + (row % 3)}`;
}

/** Two rows exchange their values of a unique column. */
function swapUnique(name: string, column: OracleColumn | undefined, deferrable: boolean, one: string, other: string): string {
  const unique = identifier(column?.name ?? "");
  const type = column === undefined ? "text" : bareType(column);
  const away = deferrable ? "" : `  UPDATE ${name} SET ${unique} = NULL WHERE ctid = one RETURNING ctid INTO one;\n`;
  return doBlock(
    "inner",
    `DECLARE one tid; other tid; first_value text; second_value text;
BEGIN
  SELECT ctid, ${unique}::text INTO one, first_value FROM ${name} WHERE ${one};
  SELECT ctid, ${unique}::text INTO other, second_value FROM ${name} WHERE ${other};
  IF one IS NULL OR one = other THEN RETURN; END IF;
${away}  UPDATE ${name} SET ${unique} = CAST(first_value AS ${type}) WHERE ctid = other;
  UPDATE ${name} SET ${unique} = CAST(second_value AS ${type}) WHERE ctid = one;
END`,
  );
}

/** Two rows exchange their keys, by way of a third. */
function swapKeys(name: string, table: OracleTable, row: number, other: number): readonly string[] {
  const [at] = table.key;
  const column = at === undefined ? undefined : table.columns[at];
  if (column === undefined || table.key.length !== 1 || column.palette.length < 3) return [];
  const key = identifier(column.name);
  const [one, two, away] = [row, row + 1 + (other % 2), row + 2 - (other % 2)];
  const becomes = (from: number, to: number): string =>
    `UPDATE ${name} SET ${key} = ${valueSql(column, to)} WHERE ${isValue(column, from)}`;
  return [becomes(one, away), becomes(two, one), becomes(away, two)];
}

function deleteKey(name: string, table: OracleTable, row: number): readonly string[] {
  const [at] = table.key;
  const column = at === undefined ? undefined : table.columns[at];
  return column === undefined ? [] : [`DELETE FROM ${name} WHERE ${isValue(column, row)}`];
}

/** A counterexample as a script for psql; what a constraint refused stands in it, too. */
export function scriptOf({ ddl, transactions }: HistorySql): string {
  const parts = transactions.map(({ statements, end, guarded }) => {
    const body = guarded
      ? statements.map((text) => `SAVEPOINT s; ${text}; -- ROLLBACK TO s where it is refused`)
      : statements.map((text) => `${text};`);
    return ["BEGIN;", ...body, `${end.toUpperCase()};`].join("\n");
  });
  return [...ddl.map((text) => `${text};`), ...parts].join("\n");
}
