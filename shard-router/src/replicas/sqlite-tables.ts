import type { Database } from "bun:sqlite";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "../dialect.ts";
import { quote } from "../dialects/sql.ts";
import { ROWID_NAMES, sqliteDialect } from "../dialects/sqlite.ts";
import { storageIn } from "../dialects/sqlite-types.ts";
import { flatTableName, foldAscii } from "../dialects/table-names.ts";
import { claimName, mayBeMade } from "./sqlite-remembered.ts";
import {
  beingChanged,
  constantDefault,
  fillAnew,
  type Misfit,
  missingColumn,
  tableLost,
  tableMismatch,
} from "./table-mismatch.ts";

/** The replica's table for the schema, made when missing. To be called in a transaction that has the write lock. */
export function prepareSqliteTable(
  database: Database,
  schema: TableSchema,
  mayCreate: boolean,
  named: TableName = schema,
  revision?: number,
): ReplicaTable {
  const wanted = sqliteDialect.columnsOf(schema);
  const name = flatTableName(named);
  const sqlName = quote(name);
  claimName(database, schema, named);
  const found = findTable(database, name);
  if (found === null) {
    if (!mayCreate) throw tableLost(schema, sqlName, "cascade_progress");
    if (!mayBeMade(database, schema.oid, named, revision)) throw beingChanged(formatTableName(schema));
    for (const text of sqliteDialect.createTable(schema, named)) database.run(text);
    return { source: schema, sqlName, columns: wanted, referenced: false };
  }
  const { columns, misfits } = compare(schema, sqlName, found);
  if (misfits.length > 0) throw tableMismatch(schema, sqlName, misfits);
  return { source: schema, sqlName, columns, referenced: false };
}

export interface FoundTable {
  readonly kind: string;
  readonly strict: boolean;
  readonly hasRowid: boolean;
  readonly columns: readonly FoundColumn[];
  readonly uniqueKeys: readonly (readonly KeyPart[])[];
  readonly collationIsExact: (column: string) => boolean;
}

export interface FoundColumn {
  readonly name: string;
  readonly type: string;
  readonly notnull: number;
  readonly hasDefault: number;
  /** SQL text, or null. */
  readonly default: string | null;
  readonly pk: number;
  /** 0 for an ordinary column, else generated or of a virtual table. */
  readonly hidden: number;
}

interface KeyPart {
  readonly name: string | null;
  readonly coll: string;
}

export function findTable(database: Database, name: string): FoundTable | null {
  const table = database
    .query<{ type: string; strict: number; wr: number; name: string }, [string]>(
      "SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)",
    )
    .get(name);
  if (table === null) return null;
  const columns = database
    .query<FoundColumn, [string]>(
      'SELECT name, type, "notnull", dflt_value IS NOT NULL AS hasDefault, dflt_value AS "default", pk, hidden FROM pragma_table_xinfo(?)',
    )
    .all(table.name);
  return {
    kind: table.type,
    strict: table.strict === 1,
    hasRowid: table.wr === 0,
    columns,
    uniqueKeys: uniqueKeys(database, table.name, columns),
    collationIsExact: (column) => collationIsExact(database, table.name, column),
  };
}

/** SQLite shows the collations of indexes only: a column's is what it makes of values that NOCASE or RTRIM would take for one. */
function collationIsExact(database: Database, table: string, column: string): boolean {
  const name = quote(column);
  const text = `SELECT ${name} = 'A' OR ${name} = 'a ' AS same FROM (SELECT ${name} FROM ${quote(table)} WHERE 0 UNION ALL SELECT 'a')`;
  return database.prepare<{ same: number }, []>(text).get()?.same === 0;
}

function uniqueKeys(database: Database, table: string, columns: readonly FoundColumn[]): readonly (readonly KeyPart[])[] {
  const indexes = database
    .query<{ name: string }, [string]>('SELECT name FROM pragma_index_list(?) WHERE "unique" = 1 AND partial = 0')
    .all(table);
  const parts = indexes.map(({ name }) =>
    database.query<KeyPart, [string]>("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key = 1").all(name),
  );
  // A rowid alias has no index of its own.
  const rowid = columns.filter(({ pk }) => pk > 0);
  return rowid.length === 1 && rowid[0]?.type.toUpperCase() === "INTEGER"
    ? [...parts, rowid.map(({ name }) => ({ name, coll: "BINARY" }))]
    : parts;
}

function compare(
  schema: TableSchema,
  sqlName: string,
  found: FoundTable,
): Pick<ReplicaTable, "columns"> & { readonly misfits: readonly Misfit[] } {
  if (found.kind !== "table")
    return { columns: [], misfits: [{ problem: "it is not a table", cure: `drop or rename ${sqlName}` }] };
  const misfits: Misfit[] = [];
  const byName = new Map(found.columns.map((column) => [foldAscii(column.name), column]));
  const wanted = new Set(schema.columns.map(({ name }) => foldAscii(name)));
  const unknown = found.columns.flatMap(({ name }) => (wanted.has(foldAscii(name)) ? [] : [name]));
  const columns = sqliteDialect.columnsOf(schema).map(({ name, type }, index) => {
    const source = schema.columns[index];
    const column = byName.get(foldAscii(name));
    const kept = source && column ? storageIn(source, column.type, found.strict) : null;
    const label = quote(name);
    if (column === undefined) {
      const sqlDefault = source === undefined ? null : literalFor(type, constantDefault(source.default));
      misfits.push(missingColumn(`ALTER TABLE ${sqlName}`, { name: label, type, sqlDefault }, unknown.map(quote)));
    } else if (column.hidden !== 0) {
      misfits.push({ problem: `column ${label} is generated, and takes no value`, cure: recreate(sqlName, label, type) });
    } else if (kept === null) {
      const problem = `column ${label} is ${column.type || "without a type"}, which does not hold every ${source?.type} exactly`;
      misfits.push({ problem, cure: recreate(sqlName, label, type) });
    }
    if (source?.nullable && column?.notnull === 1 && !schema.key.includes(name)) {
      misfits.push({
        problem: `column ${label} is NOT NULL`,
        cure: nullable(sqlName, column),
      });
    }
    const foundBy = schema.key.length === 0 ? "all columns" : schema.key.includes(name) ? "the key" : null;
    if (column !== undefined && foundBy !== null && !found.collationIsExact(column.name)) {
      const problem = `rows are found by ${foundBy}, and column ${label} has a collation that takes different values for one`;
      misfits.push({ problem, cure: recreate(sqlName, label, type) });
    }
    return { name, type: kept ?? type };
  });
  return { columns, misfits: [...misfits, ...extraMisfits(schema, sqlName, found), ...keyMisfits(schema, sqlName, found)] };
}

/** A default in the file must be what the router would have written: of the other types that is another text than main-db's. */
function literalFor(type: string, literal: string | null): string | null {
  if (literal === null) return null;
  if (type === "INTEGER" && /^-?\d+$/.test(literal)) return literal;
  if (type === "INTEGER" && /^(true|false)$/.test(literal)) return literal === "true" ? "1" : "0";
  return type === "TEXT" && literal.startsWith("'") ? literal : null;
}

/** Other than `ALTER COLUMN ... DROP NOT NULL`, which came with SQLite 3.53, every shell of today takes this. */
function nullable(sqlName: string, { name, type }: FoundColumn): string {
  const [old, made] = [quote(name), quote(`${name} nullable`)];
  const alter = `ALTER TABLE ${sqlName}`;
  const copy = `${alter} ADD COLUMN ${made} ${type}; UPDATE ${sqlName} SET ${made} = ${old}`;
  return `BEGIN IMMEDIATE; ${copy}; ${alter} DROP COLUMN ${old}; ${alter} RENAME COLUMN ${made} TO ${old}; COMMIT`;
}

/** SQLite cannot change a column in place. */
const recreate = (sqlName: string, column: string, type: string): string =>
  `make ${sqlName} anew with ${column} ${type}, or ${fillAnew("cascade_progress")}`;

function extraMisfits(schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  const wanted = new Set(schema.columns.map(({ name }) => foldAscii(name)));
  return found.columns
    .filter(
      ({ name, notnull, hasDefault, hidden }) =>
        !wanted.has(foldAscii(name)) && notnull === 1 && hasDefault === 0 && hidden === 0,
    )
    .map((column) => ({
      problem: `its own column ${quote(column.name)} is NOT NULL without a default`,
      // Its values may be all there is of a column that main-db renamed.
      cure: nullable(sqlName, column),
    }));
}

function keyMisfits(schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  if (schema.key.length === 0) return rowidMisfits(schema, sqlName, found);
  const key = new Set(schema.key.map(foldAscii));
  const exact = ({ name, coll }: KeyPart): boolean => name !== null && coll === "BINARY" && key.has(foldAscii(name));
  const onKey = ({ name }: KeyPart): boolean => name !== null && key.has(foldAscii(name));
  // ON CONFLICT takes any unique index on exactly its columns for the key.
  const loose = found.uniqueKeys.filter((parts) => parts.length === key.size && parts.every(onKey) && !parts.every(exact));
  const hasExact = found.uniqueKeys.some((parts) => parts.length === key.size && parts.every(exact));
  if (hasExact && loose.length > 0) {
    return [
      {
        problem: "its own unique index on the key has a collation that takes different values for one",
        cure: `drop that index of ${sqlName}`,
      },
    ];
  }
  if (hasExact) return [];
  const columns = schema.key.map(quote).join(", ");
  const index = quote(`${schema.table}_key`);
  return [
    {
      problem: `no unique index on exactly the key (${columns}), case counting`,
      cure: `CREATE UNIQUE INDEX ${index} ON ${sqlName} (${columns})`,
    },
  ];
}

/** Of equal rows one is removed by its number, which the table must have and none of its own columns may hide. */
function rowidMisfits(schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  const cure = `make ${sqlName} anew, or ${fillAnew("cascade_progress")}`;
  if (!found.hasRowid) return [{ problem: "it is WITHOUT ROWID, and the source's has no key", cure }];
  const wanted = new Set(schema.columns.map(({ name }) => foldAscii(name)));
  return found.columns
    .filter(({ name }) => ROWID_NAMES.includes(foldAscii(name)) && !wanted.has(foldAscii(name)))
    .map(({ name }) => ({ problem: `its own column ${quote(name)} hides SQLite's row number`, cure }));
}
