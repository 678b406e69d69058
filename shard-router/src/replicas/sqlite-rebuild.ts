import type { Database } from "bun:sqlite";
import { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { quote } from "../dialects/sql.ts";
import { ROWID_NAMES } from "../dialects/sqlite.ts";
import { conversion, literal, renameColumnTexts } from "../dialects/sqlite-alter.ts";
import { storageClass, storageIn } from "../dialects/sqlite-types.ts";
import { flatTableName, foldAscii } from "../dialects/table-names.ts";
import { KeyRefusedError } from "../key-refused.ts";
import type { TableChange } from "../replica.ts";
import { addsKey, type SchemaStep } from "../schema-change.ts";
import { isKeyError } from "./sqlite-errors.ts";
import { type FoundColumn, type FoundTable, findTable } from "./sqlite-tables.ts";

/** What is declared with a table of somebody's own and cannot be read back from the catalog. */
const UNREADABLE = /\b(?:CHECK|COLLATE|REFERENCES|FOREIGN|AUTOINCREMENT|ROWID|CONFLICT|GENERATED|AS|UNIQUE|CONSTRAINT)\b/i;

export type Alter = Extract<TableChange, { kind: "alter" }>;
/** Before a name that a column can only be declared with. */
const HELD = "cascade named ";

export const isRowidName = (name: string): boolean => ROWID_NAMES.includes(foldAscii(name));

type Ddl = (texts: readonly string[]) => void;

/**
 * Makes the table anew, with its rows, the columns, indexes and triggers that are the replica's own, and the views on it: what SQLite
 * cannot change in place (https://sqlite.org/lang_altertable.html §7). In the transaction of the change.
 */
export function rebuildTable(database: Database, change: Alter, found: FoundTable, ddl: Ddl): void {
  const { schema, steps } = change;
  const name = flatTableName(change.named);
  const sqlName = quote(name);
  checkReadable(database, change, name);
  // In place first: SQLite then writes the new names into indexes, triggers and views.
  const dropped = steps.flatMap((step, index) =>
    step.kind === "drop-column" ? [{ from: step.name, to: `cascade dropped ${index}` }] : [],
  );
  ddl(renameColumnTexts(sqlName, dropped));
  const renames = steps.flatMap((step) => (step.kind === "rename-columns" ? step.renames : []));
  ddl(
    renameColumnTexts(
      sqlName,
      renames.map(({ from, to }) => ({ from, to: isRowidName(to) ? `${HELD}${to}` : to })),
    ),
  );
  const now = findTable(database, name) ?? found;
  const columns = newColumns(database, change, now, new Set(dropped.map(({ to }) => to)));
  const own = database
    .query<{ sql: string }, [string]>(
      "SELECT sql FROM sqlite_schema WHERE lower(tbl_name) = lower(?) AND type IN ('index', 'trigger') AND sql IS NOT NULL",
    )
    .all(name);
  const anew = quote(`cascade rebuild ${name}`);
  const lines = [...columns.map((column) => column.declaration), ...keyTexts(change, now)];
  ddl([`CREATE TABLE ${anew} (\n  ${lines.join(",\n  ")}\n)${found.strict ? " STRICT" : ""}`]);
  // SQLite would make up a value for an integer that is the whole key.
  const ofKey = columns.filter((column) => schema.key.some((key) => foldAscii(key) === foldAscii(column.name)));
  const isNull = ofKey.map((column) => `${column.sql} IS NULL`).join(" OR ");
  if (addsKey(steps) && ofKey.length > 0 && !isEmpty(database, `${sqlName} WHERE ${isNull}`))
    throw new KeyRefusedError(schema, sqlName);
  try {
    ddl([
      `INSERT INTO ${anew} (${columns.map((column) => quote(column.name)).join(", ")}) SELECT ${columns.map((column) => column.sql).join(", ")} FROM ${sqlName}`,
    ]);
  } catch (error) {
    throw addsKey(steps) && isKeyError(error) ? new KeyRefusedError(schema, sqlName) : error;
  }
  ddl([`DROP TABLE ${sqlName}`]);
  // Else SQLite would look at the views, which have no table now.
  database.run("PRAGMA legacy_alter_table = ON");
  try {
    ddl([`ALTER TABLE ${anew} RENAME TO ${sqlName}`]);
  } finally {
    database.run("PRAGMA legacy_alter_table = OFF");
  }
  ddl(own.map(({ sql }) => sql));
  if (columns.length === 0) throw inTheWay(schema, "it would have no columns");
}

function checkReadable(database: Database, { schema }: Alter, name: string): void {
  const [row] = database
    .query<{ sql: string }, [string]>("SELECT sql FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)")
    .all(name);
  const words = (row?.sql ?? "").replaceAll(/"(?:[^"]|"")*"|'(?:[^']|'')*'|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*.*?\*\//gs, " ");
  const word = UNREADABLE.exec(words)?.[0];
  if (word !== undefined)
    throw inTheWay(schema, `it would have to be made anew, and its declaration has ${word.toUpperCase()}, which would be lost`);
}

const nameOf = ({ name }: FoundColumn): string => (name.startsWith(HELD) ? name.slice(HELD.length) : name);

interface NewColumn {
  readonly name: string;
  readonly declaration: string;
  /** Its values, from the table as it is. */
  readonly sql: string;
}

function newColumns(database: Database, change: Alter, found: FoundTable, dropped: ReadonlySet<string>): readonly NewColumn[] {
  const { schema } = change;
  const kept = found.columns.filter(({ name }) => !dropped.has(name));
  const source = new Map(schema.columns.map((column) => [foldAscii(column.name), column]));
  const there = new Set(kept.map((column) => foldAscii(nameOf(column))));
  return [
    ...kept.map((column) => {
      const wanted = source.get(foldAscii(nameOf(column)));
      return wanted === undefined ? ownColumn(column) : sourceColumn(database, change, found, { column, wanted });
    }),
    ...change.steps.flatMap((step) =>
      step.kind === "add-column" && !there.has(foldAscii(step.column.name)) ? [addedColumn(database, change, step)] : [],
    ),
  ];
}

function ownColumn({ name, type, notnull, default: given }: FoundColumn): NewColumn {
  const value = given === null ? "" : ` DEFAULT ${given}`;
  return { name, declaration: `${quote(name)} ${type}${notnull === 1 ? " NOT NULL" : ""}${value}`, sql: quote(name) };
}

interface Pair {
  readonly column: FoundColumn;
  readonly wanted: ColumnSchema;
}

function sourceColumn(database: Database, change: Alter, { strict }: FoundTable, { column, wanted }: Pair): NewColumn {
  const { schema, named, steps, rewritten } = change;
  const name = quote(column.name);
  const step = steps.find((given) => given.kind === "change-type" && given.to.name === wanted.name);
  const old = step?.kind === "change-type" ? step.from : wanted;
  // Somebody's own wider column stays what it is.
  const isOwn = column.type.toUpperCase() !== storageClass(old) && storageIn(wanted, column.type, strict) !== null;
  const converted = isOwn ? { sql: name, exact: true } : conversion(old, wanted, name);
  const from = quote(flatTableName(named));
  if (!converted.exact && !rewritten && !isEmpty(database, `${from} WHERE ${name} IS NOT NULL`))
    throw inTheWay(schema, `column ${name} was ${old.type} and is ${wanted.type} now, and SQLite does not convert that`);
  const notNull =
    !wanted.nullable && (schema.key.includes(wanted.name) || isEmpty(database, `${from} WHERE ${converted.sql} IS NULL`));
  const type = isOwn ? column.type : storageClass(wanted);
  const value = isOwn && column.default !== null ? ` DEFAULT ${column.default}` : "";
  return {
    name: nameOf(column),
    declaration: `${quote(nameOf(column))} ${type}${notNull ? " NOT NULL" : ""}${value}`,
    sql: converted.sql,
  };
}

function addedColumn(database: Database, { schema, named }: Alter, step: Extract<SchemaStep, { kind: "add-column" }>): NewColumn {
  const { column, existing } = step;
  const notNull =
    !column.nullable && (existing !== null || schema.key.includes(column.name) || isEmpty(database, quote(flatTableName(named))));
  const declaration = `${quote(column.name)} ${storageClass(column)}${notNull ? " NOT NULL" : ""}`;
  return { name: column.name, declaration, sql: literal(schema, column, existing) };
}

/** The key of main-db's table; a primary key of somebody's own stays, and then the key is unique beside it. */
function keyTexts({ schema, from, steps }: Alter, { columns }: FoundTable): readonly string[] {
  const primary = columns.filter(({ pk }) => pk > 0).toSorted((a, b) => a.pk - b.pk);
  const names = primary.map(nameOf);
  const list = (key: readonly string[]) => key.map(quote).join(", ");
  const changesKey = steps.some(({ kind }) => kind === "drop-key" || kind === "add-key");
  if (!changesKey) return names.length > 0 ? [`PRIMARY KEY (${list(names)})`] : [];
  const before = keyNow(from.schema.key, from.schema.columns, schema.columns);
  const isSources =
    names.length === before.length && names.every((name) => before.includes(name) || name.startsWith("cascade dropped "));
  if (isSources || names.length === 0) return schema.key.length > 0 ? [`PRIMARY KEY (${list(schema.key)})`] : [];
  return [`PRIMARY KEY (${list(names)})`, ...(schema.key.length > 0 ? [`UNIQUE (${list(schema.key)})`] : [])];
}

/** The old key by the names that its columns have now. */
function keyNow(key: readonly string[], from: readonly ColumnSchema[], to: readonly ColumnSchema[]): readonly string[] {
  return key.map((name) => {
    const attnum = from.find((column) => column.name === name)?.attnum;
    return to.find((column) => column.attnum === attnum)?.name ?? name;
  });
}

export const isEmpty = (database: Database, from: string): boolean =>
  database.prepare(`SELECT 1 FROM ${from} LIMIT 1`).get() === null;

export const inTheWay = (schema: TableSchema, reason: string): CascadeError =>
  new CascadeError({
    code: "REPLICA_TABLE_IN_USE",
    verdict: "stop-table",
    message: `the replica's table of ${formatTableName(schema)} cannot be changed as main-db's was: ${reason}`,
    advice:
      "drop what the message names (an index, a view, a trigger or a constraint of the replica's own), and make it again when the table has changed; it goes on by itself",
  });
