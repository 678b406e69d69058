import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "../dialect.ts";
import { postgresDialect, postgresTableName } from "../dialects/postgres.ts";
import { holds } from "../dialects/postgres-types.ts";
import { quote } from "../dialects/sql.ts";
import { ensureSchema, SCHEMA_CHANGE_LOCK } from "./postgres-progress.ts";
import { mayBeMade } from "./postgres-remembered.ts";
import type { PostgresSession } from "./postgres-session.ts";
import { beingChanged, constantDefault, type Misfit, missingColumn, tableLost, tableMismatch } from "./table-mismatch.ts";

/** A table as the replica's catalog has it. */
export interface FoundTable {
  readonly kind: string;
  readonly referenced: boolean;
  readonly columns: readonly FoundColumn[];
  /** Column sets of the unique indexes that ON CONFLICT can use. */
  readonly uniqueKeys: readonly (readonly string[])[];
  /** Unique indexes on whose columns a collation takes different values for one, with their columns. */
  readonly looseUniqueKeys?: readonly { readonly name: string; readonly columns: readonly string[] }[];
}

export interface FoundColumn {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly hasDefault: boolean;
  /** GENERATED ALWAYS AS (...) STORED, or AS IDENTITY: takes no value from us. */
  readonly generated: boolean;
  /** GENERATED ... AS IDENTITY: never null. */
  readonly identity: boolean;
  readonly identityAlways: boolean;
  /** The primary key it is part of, and therefore never null. */
  readonly primaryKey: string | null;
  readonly collationIsExact: boolean;
}

// The empty search path makes format_type write the schema of every type that is not built in, as the source's catalog was read.
const FIND_TABLE = `SELECT json_build_object(
  'kind', c.relkind,
  'referenced', EXISTS (SELECT 1 FROM pg_constraint f WHERE f.confrelid = c.oid AND f.contype = 'f' AND f.conrelid <> c.oid),
  'columns', (SELECT coalesce(json_agg(json_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'notNull', a.attnotnull,
      'hasDefault', a.atthasdef OR a.attidentity <> '', 'generated', a.attgenerated <> '', 'identity', a.attidentity <> '',
      'identityAlways', a.attidentity = 'a', 'primaryKey', (SELECT p.conname FROM pg_constraint p WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attnum = ANY (p.conkey)),
      'collationIsExact', coalesce(l.collisdeterministic, true)) ORDER BY a.attnum), '[]')
    FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'looseUniqueKeys', (SELECT coalesce(json_agg(json_build_object('name', i.indexrelid::regclass::text, 'columns',
      (SELECT json_agg(a.attname) FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS part JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part))), '[]')
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
      AND EXISTS (SELECT 1 FROM unnest(i.indcollation) AS used JOIN pg_collation l ON l.oid = used WHERE NOT l.collisdeterministic)),
  'uniqueKeys', (SELECT coalesce(json_agg(k.columns), '[]') FROM (
    SELECT (SELECT json_agg(a.attname) FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS part JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = part) AS columns
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL) k)
)::text AS found
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind NOT IN ('i', 'I', 'S', 't', 'c')`;

/** The replica's table for the schema, made when missing if it may be. Throws REPLICA_TABLE_MISMATCH. To be called in a transaction. */
export async function preparePostgresTable(
  session: PostgresSession,
  schema: TableSchema,
  mayCreate: boolean,
  named: TableName = schema,
  revision?: number,
): Promise<ReplicaTable> {
  const sqlName = postgresTableName(named);
  const wanted = postgresDialect.columnsOf(schema);
  const found = await findTable(session, named);
  if (found === null) {
    if (!mayCreate) throw tableLost(schema, sqlName, "cascade.progress");
    await session.run([SCHEMA_CHANGE_LOCK]);
    if (!(await mayBeMade(session, schema.oid, named, revision))) throw beingChanged(formatTableName(schema));
    await ensureSchema(session, named.schema, quote(named.schema));
    // Another router may have made it meanwhile, from an older schema.
    const made = await findTable(session, named);
    if (made === null) {
      await session.run(postgresDialect.createTable(schema, named).map((text) => ({ text })));
      return { source: schema, sqlName, columns: wanted, referenced: false };
    }
    return existingTable(schema, sqlName, made);
  }
  return existingTable(schema, sqlName, found);
}

export async function findTable(session: PostgresSession, { schema, table }: TableName): Promise<FoundTable | null> {
  const [, answer] = await session.run([{ text: "SET LOCAL search_path = ''" }, { text: FIND_TABLE, values: [schema, table] }]);
  const found = answer?.rows[0]?.["found"];
  return typeof found === "string" ? (JSON.parse(found) as FoundTable) : null;
}

function existingTable(schema: TableSchema, sqlName: string, found: FoundTable): ReplicaTable {
  const misfits = misfitsOf(schema, sqlName, found);
  if (misfits.length > 0) throw tableMismatch(schema, sqlName, misfits);
  const types = new Map(found.columns.map(({ name, type }) => [name, type]));
  const columns = schema.columns.map(({ name }) => ({ name, type: types.get(name) as string }));
  return { source: schema, sqlName, columns, referenced: found.referenced };
}

/** Pure, so that every message can be tested without a server. */
export function misfitsOf(schema: TableSchema, sqlName: string, found: FoundTable): readonly Misfit[] {
  if (found.kind !== "r" && found.kind !== "p") {
    return [{ problem: "it is not a table", cure: `drop or rename ${sqlName}` }];
  }
  const alter = `ALTER TABLE ${sqlName}`;
  const byName = new Map(found.columns.map((column) => [column.name, column]));
  const wanted = new Set(schema.columns.map(({ name }) => name));
  const unknown = found.columns.flatMap(({ name }) => (wanted.has(name) ? [] : [name]));
  const misfits = schema.columns.flatMap((source, index) => {
    const name = quote(source.name);
    const type = postgresDialect.columnsOf(schema)[index]?.type ?? "text";
    const column = byName.get(source.name);
    if (column === undefined)
      return [missingColumn(alter, { name, type, sqlDefault: constantDefault(source.default) }, unknown.map(quote))];
    return columnMisfits(
      column,
      { alter, name, type, nullable: source.nullable },
      holds(source, column.type),
      schema.key.length === 0 ? "all columns" : schema.key.includes(source.name) ? "the key" : null,
    );
  });
  for (const extra of found.columns) {
    if (wanted.has(extra.name) || !extra.notNull || extra.hasDefault) continue;
    const name = quote(extra.name);
    misfits.push({
      problem: `its own column ${name} is NOT NULL without a default`,
      cure: `${alter} ALTER COLUMN ${name} DROP NOT NULL`,
    });
  }
  for (const { name, columns } of found.looseUniqueKeys ?? []) {
    // ON CONFLICT takes any unique index on exactly its columns for the key.
    const ownCollations = found.columns.every((column) => column.collationIsExact || !columns.includes(column.name));
    if (schema.key.length === 0 || !sameNames(columns, schema.key) || !ownCollations) continue;
    misfits.push({
      problem: `its own unique index ${name} on the key has a collation that takes different values for one`,
      cure: `DROP INDEX ${name}`,
    });
  }
  if (schema.key.length > 0 && !found.uniqueKeys.some((columns) => sameNames(columns, schema.key))) {
    const key = schema.key.map(quote).join(", ");
    misfits.push({ problem: `no unique index on exactly the key (${key})`, cure: `${alter} ADD UNIQUE (${key})` });
  }
  return misfits;
}

interface Wanted {
  readonly alter: string;
  readonly name: string;
  readonly type: string;
  readonly nullable: boolean;
}

function columnMisfits(column: FoundColumn, wanted: Wanted, fits: boolean, foundBy: "the key" | "all columns" | null): Misfit[] {
  const { name } = wanted;
  const alter = `${wanted.alter} ALTER COLUMN ${name}`;
  const misfits: Misfit[] = [];
  if (column.generated)
    misfits.push({ problem: `column ${name} is generated, and takes no value`, cure: `${alter} DROP EXPRESSION` });
  if (!fits) {
    const problem = `column ${name} is ${column.type}, which does not hold every ${wanted.type} exactly`;
    misfits.push({ problem, cure: `${alter} TYPE ${wanted.type} USING ${name}::${wanted.type}` });
  }
  if (column.identityAlways)
    misfits.push({ problem: `column ${name} is an identity that takes no value`, cure: `${alter} SET GENERATED BY DEFAULT` });
  if (wanted.nullable && column.notNull && foundBy !== "the key") {
    const first = column.identity
      ? `ALTER COLUMN ${name} DROP IDENTITY, `
      : column.primaryKey === null
        ? ""
        : `DROP CONSTRAINT IF EXISTS ${quote(column.primaryKey)}, `;
    misfits.push({ problem: `column ${name} is NOT NULL`, cure: `${wanted.alter} ${first}ALTER COLUMN ${name} DROP NOT NULL` });
  }
  if (foundBy !== null && !column.collationIsExact) {
    const problem = `rows are found by ${foundBy}, and column ${name} has a collation that takes different values for one`;
    misfits.push({ problem, cure: `${alter} TYPE ${wanted.type} COLLATE "C"` });
  }
  return misfits;
}

export const sameNames = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name) => b.includes(name));
