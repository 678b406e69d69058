import type { Database } from "bun:sqlite";
import { FencedError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import { quote } from "../dialects/sql.ts";
import { flatTableName, foldAscii } from "../dialects/table-names.ts";
import type { Partition } from "../event-consumer.ts";
import type { RememberedTable, TableChange, Work } from "../replica.ts";
import { isSameName } from "../schema-history.ts";
import { mayBeMadeBy, type RememberedRow, rememberedOf } from "./remembered-row.ts";
import { nameTaken } from "./table-mismatch.ts";

/**
 * Which source table each name of the file stands for, and what that is like: SQLite has no schemas and folds case, so two tables may
 * want one name. A row without an oid is of a table that an older Cascade made.
 * (`oid` alone is what SQLite calls the number of a row.)
 */
const CREATE_TABLES = `CREATE TABLE IF NOT EXISTS cascade_tables (
  name TEXT NOT NULL PRIMARY KEY,
  source_schema TEXT NOT NULL,
  source_table TEXT NOT NULL
) STRICT`;

const ADDED: readonly string[] = [
  "source_oid INTEGER",
  "named_schema TEXT",
  "named_table TEXT",
  "schema TEXT",
  "commit_lsn TEXT",
  "ordinal INTEGER",
  "revision INTEGER",
  "awaiting TEXT",
];

/** To be called in a transaction that has the write lock. */
export function ensureTableNames(database: Database): void {
  database.run(CREATE_TABLES);
  const there = new Set(
    database
      .query<{ name: string }, []>("SELECT name FROM pragma_table_info('cascade_tables')")
      .all()
      .map(({ name }) => name),
  );
  for (const column of ADDED) {
    if (!there.has(column.split(" ")[0] as string)) database.run(`ALTER TABLE cascade_tables ADD COLUMN ${column}`);
  }
  database.run("CREATE UNIQUE INDEX IF NOT EXISTS cascade_tables_source_oid ON cascade_tables (source_oid)");
}

export function readRemembered(database: Database, oids?: readonly number[]): readonly RememberedTable[] {
  const wanted = oids === undefined ? "IS NOT NULL" : "IN (SELECT value FROM json_each(?))";
  return database
    .query<RememberedRow, string[]>(`SELECT *, source_oid AS oid FROM cascade_tables WHERE source_oid ${wanted}`)
    .all(...(oids === undefined ? [] : [JSON.stringify(oids)]))
    .map(rememberedOf);
}

/** See `mayBeMadeBy`. */
export function mayBeMade(database: Database, oid: number, named: TableName, revision?: number): boolean {
  const found = database
    .query<{ name: string; revision: number }, [number]>("SELECT name, revision FROM cascade_tables WHERE source_oid = ?")
    .get(oid);
  return mayBeMadeBy(found && { ...found, isCalledSo: found.name === foldAscii(flatTableName(named)) }, revision);
}

/** In a transaction that has the write lock: nothing changes until it ends. */
export function checkUnchanged(database: Database, tables: Work["tables"], { topic, partition }: Partition): void {
  for (const { oid, revision, renews } of tables ?? []) {
    const found = renews
      ? database
          .query("UPDATE cascade_tables SET revision = revision + 1 WHERE source_oid = ? AND revision = ?")
          .run(oid, revision).changes === 1
      : database.query("SELECT 1 FROM cascade_tables WHERE source_oid = ? AND revision = ?").get(oid, revision) !== null;
    if (!found) throw new FencedError(topic, partition, `the table of ${topic}`);
  }
}

const RESERVED = /^(?:sqlite_|cascade_progress$|cascade_replica$|cascade_tables$|cascade_held_keys$|cascade_shard$)/;

interface Owner {
  readonly source_oid: number | null;
  readonly source_schema: string;
  readonly source_table: string;
  readonly named_schema: string | null;
  readonly named_table: string | null;
}

const ownerOf = (database: Database, name: string): Owner | null =>
  database
    .query<Owner, [string]>(
      "SELECT source_oid, source_schema, source_table, named_schema, named_table FROM cascade_tables WHERE name = ?",
    )
    .get(foldAscii(name));

/** Takes the name for the schema's table, unless another source table has it. */
export function claimName(database: Database, schema: TableSchema, named: TableName = schema): void {
  const name = flatTableName(named);
  if (RESERVED.test(foldAscii(name))) throw taken(schema, name, "a reserved name there");
  database
    .query("INSERT INTO cascade_tables (name, source_schema, source_table) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING")
    .run(foldAscii(name), schema.schema, schema.table);
  checkOwner(database, schema, named);
}

function checkOwner(database: Database, schema: TableSchema, named: TableName): void {
  const name = flatTableName(named);
  const owner = ownerOf(database, name);
  if (owner === null || owner.source_oid === schema.oid) return;
  const source = { schema: owner.source_schema, table: owner.source_table };
  if (owner.source_oid === null && (isSameName(source, schema) || isSameName(source, named))) return;
  throw taken(schema, name, `the name of ${formatTableName(source)} there`);
}

const taken = (schema: TableSchema, name: string, by: string) =>
  nameTaken(schema, { sqlName: quote(name), place: "the SQLite file", by, another: "a file" });

/** The rows of cascade_tables within one transaction; each throws FencedError when the table is not as it was remembered. */
export class RememberedRows {
  readonly #database: Database;
  readonly #partition: Partition;

  constructor(database: Database, partition: Partition) {
    this.#database = database;
    this.#partition = partition;
  }

  add({ schema, at, named, awaiting = null }: Extract<TableChange, { kind: "create" }>): void {
    const name = flatTableName(named);
    const owner = ownerOf(this.#database, name);
    // Another router has made it meanwhile.
    if (
      owner !== null &&
      owner.source_oid !== null &&
      isSameName({ schema: owner.named_schema ?? "", table: owner.named_table ?? "" }, named)
    )
      throw this.#stale(named);
    claimName(this.#database, schema, named);
    const text = `UPDATE cascade_tables SET source_oid = ?, named_schema = ?, named_table = ?, source_schema = ?, source_table = ?, schema = ?,
      commit_lsn = ?, ordinal = ?, awaiting = ?, revision = 1 WHERE name = ? AND NOT EXISTS (SELECT 1 FROM cascade_tables WHERE source_oid = ?)`;
    const values = [schema.oid, ...valuesOf({ schema, at, named }), awaiting, foldAscii(name), schema.oid];
    this.#one(named, this.#database.query(text).run(...values).changes);
  }

  change(from: RememberedTable, to: Pick<RememberedTable, "schema" | "at" | "named">): void {
    const name = flatTableName(to.named);
    if (RESERVED.test(foldAscii(name))) throw taken(to.schema, name, "a reserved name there");
    checkOwner(this.#database, to.schema, to.named);
    // A claim of the name that came to nothing.
    this.#database.query("DELETE FROM cascade_tables WHERE name = ? AND source_oid IS NULL").run(foldAscii(name));
    const text = `UPDATE cascade_tables SET name = ?, named_schema = ?, named_table = ?, source_schema = ?, source_table = ?, schema = ?,
      commit_lsn = ?, ordinal = ?, revision = revision + 1 WHERE source_oid = ? AND revision = ?`;
    const values = [foldAscii(name), ...valuesOf(to), from.oid, from.revision];
    this.#one(from.named, this.#database.query(text).run(...values).changes);
  }

  await({ named, oid, revision }: RememberedTable, awaiting: string | null): void {
    const text = "UPDATE cascade_tables SET awaiting = ?, revision = revision + 1 WHERE source_oid = ? AND revision = ?";
    this.#one(named, this.#database.query(text).run(awaiting, oid, revision).changes);
  }

  remove({ oid, revision, named }: RememberedTable): void {
    const text = "DELETE FROM cascade_tables WHERE source_oid = ? AND revision = ?";
    this.#one(named, this.#database.query(text).run(oid, revision).changes);
  }

  #one(named: TableName, changes: number): void {
    if (changes !== 1) throw this.#stale(named);
  }

  #stale(named: TableName): FencedError {
    const { topic, partition } = this.#partition;
    return new FencedError(topic, partition, `the replica's table of ${formatTableName(named)}`);
  }
}

const valuesOf = ({ schema, at, named }: Pick<RememberedTable, "schema" | "at" | "named">): (string | number)[] => [
  named.schema,
  named.table,
  schema.schema,
  schema.table,
  JSON.stringify(schema),
  formatLsn(at.commitLsn),
  at.ordinal,
];
