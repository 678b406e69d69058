import { FencedError } from "@cascade/shared/errors";
import { formatLsn, type Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { foldAscii } from "../dialects/table-names.ts";
import type { Partition } from "../event-consumer.ts";
import type { RememberedTable, TableChange, Work } from "../replica.ts";
import type { DuckdbSession } from "./duckdb-session.ts";
import { mayBeMadeBy, rememberedOf } from "./remembered-row.ts";

/** cascade_tables: which source table each table of the replica stands for, and what that is like now. */

/**
 * Which source table each name of the file stands for: DuckDB folds case, so two tables may want one name. `oid` is NULL where an older
 * Cascade, or `prepare` alone, has claimed the name.
 */
export const CREATE_TABLES: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS main.cascade_tables (
  schema_name VARCHAR NOT NULL,
  table_name VARCHAR NOT NULL,
  source_schema VARCHAR NOT NULL,
  source_table VARCHAR NOT NULL,
  PRIMARY KEY (schema_name, table_name)
)`,
  ...[
    "oid BIGINT",
    "named_schema VARCHAR",
    "named_table VARCHAR",
    "schema VARCHAR",
    "commit_lsn VARCHAR",
    "ordinal BIGINT",
    "revision BIGINT",
    "awaiting VARCHAR",
  ].map((column) => `ALTER TABLE main.cascade_tables ADD COLUMN IF NOT EXISTS ${column}`),
];

const READ =
  "SELECT oid::VARCHAR AS oid, named_schema, named_table, schema, commit_lsn, ordinal::VARCHAR AS ordinal, revision::VARCHAR AS revision, awaiting FROM main.cascade_tables WHERE oid IS NOT NULL";

export async function readRemembered(session: DuckdbSession, oids?: readonly number[]): Promise<readonly RememberedTable[]> {
  const text = oids === undefined ? READ : `${READ} AND oid IN (${["NULL", ...oids].join(", ")})`;
  return (await session.rows(text)).map(rememberedOf);
}

/** See `mayBeMadeBy`. */
export async function mayBeMade(session: DuckdbSession, oid: number, named: TableName, revision?: number): Promise<boolean> {
  const text = "SELECT schema_name = $2 AND table_name = $3 AS named_so, revision FROM main.cascade_tables WHERE oid = $1";
  const [row] = await session.rows(text, [BigInt(oid), foldAscii(named.schema), foldAscii(named.table)]);
  return mayBeMadeBy(row === undefined ? null : { isCalledSo: row["named_so"] === true, revision: row["revision"] }, revision);
}

/** Within `apply`'s transaction. Rejects with FencedError when a table is not as it was remembered. */
export async function checkUnchanged(session: DuckdbSession, tables: Work["tables"], partition: Partition): Promise<void> {
  const isAsRead = "oid = $1 AND revision = $2";
  for (const { oid, revision, renews } of tables ?? []) {
    const values = [BigInt(oid), BigInt(revision)];
    const found = renews
      ? await session.run(`UPDATE main.cascade_tables SET revision = revision + 1 WHERE ${isAsRead}`, values)
      : (await session.rows(`SELECT 1 FROM main.cascade_tables WHERE ${isAsRead}`, values)).length;
    if (found !== 1) throw new FencedError(partition.topic, partition.partition, `the table of ${partition.topic}`);
  }
}

const STATE =
  "oid = $3, named_schema = $4, named_table = $5, source_schema = $6, source_table = $7, schema = $8, commit_lsn = $9, ordinal = $10";
const TAKE_OVER = `UPDATE main.cascade_tables SET ${STATE}, awaiting = $11, revision = coalesce(revision, 0) + 1
  WHERE schema_name = $1 AND table_name = $2 AND oid IS NULL AND NOT EXISTS (SELECT 1 FROM main.cascade_tables WHERE oid = $3)`;
const UPDATE = `UPDATE main.cascade_tables SET schema_name = $1, table_name = $2, ${STATE}, revision = revision + 1 WHERE oid = $3 AND revision = $11`;

type State = Pick<RememberedTable, "schema" | "at" | "named">;

/** The rows of cascade_tables within one transaction; each rejects with FencedError when the table is not as it was remembered. */
export class RememberedRows {
  readonly #session: DuckdbSession;
  readonly #partition: Partition;

  constructor(session: DuckdbSession, partition: Partition) {
    this.#session = session;
    this.#partition = partition;
  }

  /** Takes over the name that `prepare` has claimed. */
  add(created: Extract<TableChange, { kind: "create" }>): Promise<void> {
    return this.#one(created.named, TAKE_OVER, [...valuesOf(created), created.awaiting ?? null]);
  }

  /** Nothing is to be said of a table that is another one by now. */
  check({ named, oid, revision }: RememberedTable): Promise<void> {
    const text = "UPDATE main.cascade_tables SET revision = revision WHERE oid = $1 AND revision = $2";
    return this.#one(named, text, [BigInt(oid), BigInt(revision)]);
  }

  async change(from: RememberedTable, to: State): Promise<void> {
    const values = valuesOf(to);
    const claimed = "DELETE FROM main.cascade_tables WHERE schema_name = $1 AND table_name = $2 AND oid IS NULL";
    await this.#session.run(claimed, values.slice(0, 2));
    return this.#one(from.named, UPDATE, [...values, BigInt(from.revision)]);
  }

  await({ named, oid, revision }: RememberedTable, awaiting: string | null): Promise<void> {
    const text = "UPDATE main.cascade_tables SET awaiting = $3, revision = revision + 1 WHERE oid = $1 AND revision = $2";
    return this.#one(named, text, [BigInt(oid), BigInt(revision), awaiting]);
  }

  remove({ named, oid, revision }: RememberedTable): Promise<void> {
    return this.#one(named, "DELETE FROM main.cascade_tables WHERE oid = $1 AND revision = $2", [BigInt(oid), BigInt(revision)]);
  }

  async #one(named: TableName, text: string, values: readonly SqlValue[]): Promise<void> {
    if ((await this.#session.run(text, values)) === 1) return;
    const { topic, partition } = this.#partition;
    throw new FencedError(topic, partition, `the replica's table of ${formatTableName(named)}`);
  }
}

function valuesOf({ schema, at, named }: { schema: TableSchema; at: Position; named: TableName }): readonly SqlValue[] {
  const names = [named.schema, named.table, schema.schema, schema.table];
  const state = [JSON.stringify(schema), formatLsn(at.commitLsn), BigInt(at.ordinal)];
  return [foldAscii(named.schema), foldAscii(named.table), BigInt(schema.oid), ...names, ...state];
}
