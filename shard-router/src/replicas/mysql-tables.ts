import type { CascadeError } from "@cascade/shared/errors";
import type { ColumnSchema, TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Dialect, ReplicaTable } from "../dialect.ts";
import { foldName, quoteMysql } from "../dialects/mysql.ts";
import { mysqlHolds } from "../dialects/mysql-fit.ts";
import { parseMysqlType } from "../dialects/mysql-types.ts";
import { flatTableName } from "../dialects/table-names.ts";
import { isSameName } from "../schema-history.ts";
import { type FoundColumn, type FoundTable, findMysqlTable } from "./mysql-catalog.ts";
import { claimedName, locked, mayBeMade } from "./mysql-remembered.ts";
import type { MysqlSession } from "./mysql-session.ts";
import {
  beingChanged,
  constantDefault,
  type Misfit,
  missingColumn,
  nameTaken,
  tableLost,
  tableMismatch,
} from "./table-mismatch.ts";

/** The replica's table for the schema, made when missing. To be called alone on the connection: its DDL commits. */
export async function prepareMysqlTable(
  session: MysqlSession,
  dialect: Dialect,
  schema: TableSchema,
  mayCreate: boolean,
  named: TableName = schema,
  revision?: number,
): Promise<ReplicaTable> {
  const wanted = dialect.columnsOf(schema);
  const name = flatTableName(named);
  const sqlName = quoteMysql(name);
  await claimMysqlName(session, schema, named);
  let found = await findMysqlTable(session, name);
  if (found === null) {
    if (!mayCreate) throw tableLost(schema, sqlName, "cascade_progress");
    // For a router that was killed the server may still be giving the table another name: then this one would be nobody's.
    const made = await locked(session, [schema.oid], 0, async () => {
      if (!(await mayBeMade(session, schema, named, revision))) return null;
      for (const text of dialect.createTable(schema, named)) await session.query(text);
      return true;
    });
    if (made === null) throw beingChanged(formatTableName(schema));
    // Another router may have made it meanwhile, from an older schema.
    found = await findMysqlTable(session, name);
    if (found === null) throw tableLost(schema, sqlName, "cascade_progress");
  }
  const misfits = mysqlMisfits(dialect, schema, sqlName, found);
  if (misfits.length > 0) throw tableMismatch(schema, sqlName, misfits);
  const types = new Map(found.columns.map((column) => [foldName(column.name), column.type]));
  const columns = wanted.map((column) => ({ name: column.name, type: types.get(foldName(column.name)) ?? column.type }));
  // An upsert counts on a key that cannot be NULL.
  const nullableKey = found.columns.some(
    ({ name, nullable }) => nullable && schema.key.some((key) => foldName(key) === foldName(name)),
  );
  const hasOtherUnique = nullableKey || found.uniqueIndexes.some(({ columns }) => !isKey(schema, columns));
  const numbersKey = found.columns.some(
    ({ name, autoIncrement }) => autoIncrement && schema.key.some((key) => foldName(key) === foldName(name)),
  );
  return { source: schema, sqlName, columns, referenced: false, hasOtherUnique, numbersKey };
}

const RESERVED = /^cascade_(?:progress|replica|tables|held_keys|shard)$/i;

/** Takes the name for the table, unless another has it. */
export async function claimMysqlName(session: MysqlSession, schema: TableSchema, named: TableName): Promise<void> {
  const claimed = claimedName(session, named);
  if (RESERVED.test(claimed)) throw takenName(schema, named, "a reserved name there");
  const ask = () =>
    session
      .query("SELECT source_schema, source_table, CAST(oid AS CHAR) AS oid FROM cascade_tables WHERE name = ?", [claimed])
      .then(([row]) => row);
  let owner = await ask();
  if (owner === undefined) {
    const values = [claimed, named.schema, named.table];
    await session.query("INSERT IGNORE INTO cascade_tables (name, source_schema, source_table) VALUES (?, ?, ?)", values);
    owner = await ask();
  }
  const other = { schema: String(owner?.["source_schema"]), table: String(owner?.["source_table"]) };
  // Of a table that came to nothing, or that an older Cascade made.
  const isClaim = owner?.["oid"] === null && isSameName(other, named);
  if (owner?.["oid"] === String(schema.oid) || isClaim || isSameName(other, schema)) return;
  throw takenName(schema, named, `the name of ${formatTableName(other)} there`);
}

/** `by`: who has the name that the table shall have. */
export const takenName = (schema: TableSchema, named: TableName, by: string): CascadeError =>
  nameTaken(schema, {
    sqlName: quoteMysql(flatTableName(named)),
    place: "the replica's database",
    by,
    another: "a database",
  });

/** Pure, so that every message can be tested without a server. */
export function mysqlMisfits(dialect: Dialect, schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  if (found.kind !== "BASE TABLE") return [{ problem: "it is not a table", cure: `drop or rename ${sqlName}` }];
  const alter = `ALTER TABLE ${sqlName}`;
  const misfits: Misfit[] = [];
  if (!/^innodb$/i.test(found.engine)) {
    const problem = `its engine ${found.engine} has no transactions`;
    misfits.push({ problem, cure: `${alter} ENGINE=InnoDB` });
  }
  const byName = new Map(found.columns.map((column) => [foldName(column.name), column]));
  const wanted = new Set(schema.columns.map(({ name }) => foldName(name)));
  const unknown = found.columns.flatMap(({ name }) => (wanted.has(foldName(name)) ? [] : [quoteMysql(name)]));
  const types = dialect.columnsOf(schema);
  for (const [index, source] of schema.columns.entries()) {
    const type = types[index]?.type ?? "LONGTEXT";
    const column = byName.get(foldName(source.name));
    if (column !== undefined) misfits.push(...columnMisfits(schema, source, column, { alter, type }));
    else
      misfits.push(missingColumn(alter, { name: quoteMysql(source.name), type, sqlDefault: defaultOf(source, type) }, unknown));
  }
  for (const extra of found.columns) {
    if (wanted.has(foldName(extra.name)) || extra.nullable || extra.hasDefault || extra.generated) continue;
    const name = quoteMysql(extra.name);
    misfits.push({
      problem: `its own column ${name} is NOT NULL without a default`,
      cure: `${alter} MODIFY ${name} ${extra.type} NULL`,
    });
  }
  if (schema.key.length > 0 && !found.uniqueIndexes.some(({ columns }) => isKey(schema, columns))) {
    const key = schema.key.map(quoteMysql).join(", ");
    misfits.push({ problem: `no unique index on exactly the key (${key})`, cure: `${alter} ADD UNIQUE (${key})` });
  }
  return misfits;
}

interface Wanted {
  readonly alter: string;
  readonly type: string;
}

function columnMisfits(
  schema: TableSchema,
  source: ColumnSchema,
  column: FoundColumn,
  { alter, type }: Wanted,
): readonly Misfit[] {
  const name = quoteMysql(column.name);
  const inKey = schema.key.includes(source.name);
  const modify = (to: string) => `${alter} MODIFY ${name} ${to}${source.nullable ? "" : " NOT NULL"}`;
  const misfits: Misfit[] = [];
  const problem = typeProblem(schema, source, column);
  // With the type that it has, if that fits: in another one the values that are there may look different.
  const cure = modify(problem === null ? declaredType(column) : type);
  if (column.virtual) {
    const anew = `${alter} DROP COLUMN ${name}, ADD COLUMN ${name} ${type}${source.nullable ? "" : " NOT NULL"}`;
    misfits.push({ problem: `column ${name} is generated, and takes no value`, cure: anew, addsColumn: true });
  } else if (problem !== null) {
    misfits.push({ problem, cure });
  } else if (column.onUpdate) {
    // A statement does not name the columns of the key that stay.
    misfits.push({ problem: `column ${name} takes the time of every change (ON UPDATE)`, cure });
  }
  if (source.nullable && !column.nullable && !inKey) misfits.push({ problem: `column ${name} is NOT NULL`, cure });
  return misfits;
}

function typeProblem(schema: TableSchema, source: ColumnSchema, column: FoundColumn): string | null {
  const name = quoteMysql(column.name);
  const inKey = schema.key.includes(source.name);
  const found = parseMysqlType(column.type);
  if (column.generated) return `column ${name} is generated, and takes no value`;
  if (!mysqlHolds(schema, source, found))
    return `column ${name} is ${column.type}, which does not hold every ${source.type} exactly`;
  if (found.kind === "text" && column.charset !== "utf8mb4" && !isAscii(source))
    return `column ${name} is in character set ${column.charset}, which lacks characters`;
  if ((inKey || schema.key.length === 0) && !tellsApart(source, column)) {
    const foundBy = inKey ? "the key" : "all columns";
    return `rows are found by ${foundBy}, and column ${name} has the collation ${column.collation}, which takes different values for one`;
  }
  if (inKey && UNINDEXED.test(found.base))
    return `rows are found by the key, and column ${name} is ${column.type}, whose index finds none`;
  return null;
}

const declaredType = ({ type, charset, collation }: FoundColumn): string =>
  collation === null ? type : `${type} CHARACTER SET ${charset} COLLATE ${collation}`;

/** MariaDB makes their unique indexes of hashes, which serve no WHERE: every change would read the whole table. */
const UNINDEXED = /text$|blob$/;

const UUID = 2950;

/** A UUID's text has neither capitals nor blanks. */
const isAscii = ({ typeOid }: ColumnSchema): boolean => typeOid === UUID;

/** Binary collations pad with blanks, but for those that say otherwise: 'a' and 'a ' are then one. */
const EXACT_COLLATION = /^(?:binary|utf8mb4_0900_bin|.*_nopad_bin)$/;

const tellsApart = (source: ColumnSchema, { collation }: FoundColumn): boolean =>
  collation === null || EXACT_COLLATION.test(collation) || (isAscii(source) && collation.endsWith("_bin"));

const isKey = ({ key }: TableSchema, columns: readonly string[]): boolean =>
  columns.length === key.length && key.every((name) => columns.includes(foldName(name)));

/** A default in the replica must be what the router would have written: of other types that is another text than main-db's. */
function defaultOf(source: ColumnSchema, type: string): string | null {
  const literal = constantDefault(source.default);
  const { kind } = parseMysqlType(type);
  if (literal === null) return null;
  if (kind === "integer" && /^(?:-?\d+|true|false)$/.test(literal)) return literal;
  if (kind === "decimal" && /^-?[\d.]+$/.test(literal)) return literal;
  // Only VARCHAR may have one on MySQL; backslashes escape there, and not in PostgreSQL's literals.
  return kind === "text" && type.startsWith("VARCHAR") && literal.startsWith("'") && !literal.includes("\\") ? literal : null;
}
