import { quoteTableName } from "@cascade/shared/topic";
import fc from "fast-check";
import { identifier, literal, placeOf, tableName } from "./names.ts";
import { createTable, type OracleColumn, type OracleTable, oracleTable } from "./schemas.ts";

/** What happens to a set of tables. All numbers are taken modulo what there is: any history means something for any tables. */
export interface History {
  readonly tables: readonly OracleTable[];
  readonly transactions: readonly Transaction[];
  /** How a router's share of the events is cut into batches, table after table. */
  readonly batchSizes: readonly number[];
  /** Events that are delivered once more before each batch. */
  readonly replays: readonly number[];
}

interface Transaction {
  readonly steps: readonly Step[];
  /** Every statement in a savepoint of its own, so that one that a constraint refuses does not take the others with it. */
  readonly guarded: boolean;
  readonly end: "commit" | "rollback";
}

type Step = Change | { readonly act: "roll back"; readonly changes: readonly Change[] };

const ACTS = [
  "insert",
  "upsert",
  "update",
  "update all",
  "rekey",
  "swap unique",
  "swap keys",
  "copy",
  "delete",
  "delete key",
  "truncate",
] as const;
type Act = (typeof ACTS)[number];
const WEIGHTS: Readonly<Record<Act, number>> = {
  insert: 24,
  upsert: 7,
  update: 12,
  "update all": 1,
  rekey: 12,
  "swap unique": 3,
  "swap keys": 3,
  copy: 3,
  delete: 5,
  "delete key": 2,
  truncate: 1,
};

interface Change {
  readonly act: Act;
  readonly table: number;
  /** Which of the rows, and which other one. */
  readonly row: number;
  readonly other: number;
  /** By column: what it becomes. */
  readonly values: readonly Value[];
}

/** `pick`: of the palette. */
type Value = { readonly kind: "pick" | "keep" | "null" | "default"; readonly pick: number };

const value: fc.Arbitrary<Value> = fc.record({
  kind: fc.constantFrom("pick", "pick", "pick", "pick", "keep", "keep", "keep", "null", "default"),
  pick: fc.nat(7),
});
const change: fc.Arbitrary<Change> = fc.record({
  act: fc.oneof(...ACTS.map((act) => ({ weight: WEIGHTS[act], arbitrary: fc.constant(act) }))),
  table: fc.nat(5),
  row: fc.nat(20),
  other: fc.nat(20),
  values: fc.array(value, { minLength: 9, maxLength: 9 }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: change },
  {
    weight: 1,
    arbitrary: fc.record({ act: fc.constant("roll back" as const), changes: fc.array(change, { minLength: 1, maxLength: 3 }) }),
  },
);
const transaction: fc.Arbitrary<Transaction> = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 8, size: "max" }),
  guarded: fc.constantFrom(true, true, false),
  end: fc.oneof(
    { weight: 19, arbitrary: fc.constant("commit" as const) },
    { weight: 1, arbitrary: fc.constant("rollback" as const) },
  ),
});

export const history: fc.Arbitrary<History> = fc.record({
  tables: fc.uniqueArray(oracleTable, { minLength: 1, maxLength: 4, size: "max", selector: ({ name }) => placeOf(name) }),
  transactions: fc.array(transaction, { minLength: 1, maxLength: 16, size: "max" }),
  batchSizes: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 4 }),
  replays: fc.array(fc.constantFrom(0, 0, 0, 1, 5), { minLength: 1, maxLength: 3 }),
});

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
