import { FencedError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { Partition } from "../event-consumer.ts";
import type { RememberedTable, TableChange, Work } from "../replica.ts";
import type { Answer, PostgresSession, Query } from "./postgres-session.ts";
import { mayBeMadeBy, rememberedOf } from "./remembered-row.ts";

/** cascade.tables: which source table each table of the replica stands for, and what that is like now. */

const READ = `SELECT oid::text, named_schema, named_table, schema, commit_lsn::text, ordinal::text, revision::text, awaiting FROM cascade.tables`;

export async function readRemembered(session: PostgresSession, oids?: readonly number[]): Promise<readonly RememberedTable[]> {
  const query =
    oids === undefined ? { text: READ } : { text: `${READ} WHERE oid = ANY($1::oid[])`, values: [`{${oids.join(",")}}`] };
  const [answer] = await session.run([query]);
  return (answer?.rows ?? []).map(rememberedOf);
}

/** See `mayBeMadeBy`. It stays so until the transaction ends. */
export async function mayBeMade(session: PostgresSession, oid: number, named: TableName, revision?: number): Promise<boolean> {
  const text = "SELECT named_schema, named_table, revision::text FROM cascade.tables WHERE oid = $1 FOR SHARE";
  const [answer] = await session.run([{ text, values: [oid] }]);
  const row = answer?.rows[0];
  const isCalledSo = row?.["named_schema"] === named.schema && row["named_table"] === named.table;
  return mayBeMadeBy(row === undefined ? null : { isCalledSo, revision: row["revision"] }, revision);
}

/**
 * Finds one row for each table that is as it was remembered, and keeps it from being changed until the transaction ends: it waits for a
 * change that is under way, and then finds none.
 */
export function unchangedQueries(tables: Work["tables"]): readonly Query[] {
  return (tables ?? []).map(({ oid, revision, renews }) => ({
    text: renews
      ? "UPDATE cascade.tables SET revision = revision + 1 WHERE oid = $1 AND revision = $2"
      : "SELECT 1 FROM cascade.tables WHERE oid = $1 AND revision = $2 FOR SHARE",
    values: [oid, revision],
  }));
}

/** Throws FencedError when one of them found none. */
export function checkUnchanged(answers: readonly Answer[], { topic, partition }: Partition): void {
  if (answers.some(({ rowCount }) => rowCount !== 1)) throw new FencedError(topic, partition, `the table of ${topic}`);
}

const INSERT = `INSERT INTO cascade.tables (named_schema, named_table, oid, source_schema, source_table, schema, commit_lsn, ordinal, awaiting, revision)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) ON CONFLICT DO NOTHING`;
const UPDATE = `UPDATE cascade.tables SET named_schema = $3, named_table = $4, source_schema = $5, source_table = $6, schema = $7, commit_lsn = $8,
    ordinal = $9, revision = revision + 1
  WHERE oid = $1 AND revision = $2`;

/** The rows of cascade.tables within one transaction; each rejects with FencedError when the table is not as it was remembered. */
export class RememberedRows {
  readonly #session: PostgresSession;
  readonly #partition: Partition;

  constructor(session: PostgresSession, partition: Partition) {
    this.#session = session;
    this.#partition = partition;
  }

  add({ schema, at, named, awaiting = null }: Extract<TableChange, { kind: "create" }>): Promise<void> {
    const values = [named.schema, named.table, schema.oid, schema.schema, schema.table];
    const state = [JSON.stringify(schema), formatLsn(at.commitLsn), at.ordinal];
    return this.#one(named, { text: INSERT, values: [...values, ...state, awaiting] });
  }

  change(from: RememberedTable, to: Pick<RememberedTable, "schema" | "at" | "named">): Promise<void> {
    const { schema, at, named } = to;
    const names = [named.schema, named.table, schema.schema, schema.table];
    const state = [JSON.stringify(schema), formatLsn(at.commitLsn), at.ordinal];
    return this.#one(from.named, { text: UPDATE, values: [from.oid, from.revision, ...names, ...state] });
  }

  await({ named, oid, revision }: RememberedTable, awaiting: string | null): Promise<void> {
    const text = "UPDATE cascade.tables SET awaiting = $3, revision = revision + 1 WHERE oid = $1 AND revision = $2";
    return this.#one(named, { text, values: [oid, revision, awaiting] });
  }

  remove(from: RememberedTable): Promise<void> {
    const text = "DELETE FROM cascade.tables WHERE oid = $1 AND revision = $2";
    return this.#one(from.named, { text, values: [from.oid, from.revision] });
  }

  async #one(named: TableName, query: Query): Promise<void> {
    const [answer] = await this.#session.run([query]);
    if (answer?.rowCount === 1) return;
    const { topic, partition } = this.#partition;
    throw new FencedError(topic, partition, `the replica's table of ${formatTableName(named)}`);
  }
}
