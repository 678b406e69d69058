import { FencedError } from "@cascade/shared/errors";
import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Progress } from "../replica.ts";
import { HeldRows } from "./held-rows.ts";
import type { Answer, PostgresSession, Query } from "./postgres-session.ts";
import { ShardRow } from "./shard-row.ts";

/** `commit_lsn` is a pg_lsn: it reads like every other LSN an operator meets, and orders right. */
const CREATE_PROGRESS = `CREATE TABLE IF NOT EXISTS cascade.progress (
  topic text NOT NULL,
  partition integer NOT NULL,
  next_offset bigint NOT NULL,
  commit_lsn pg_lsn NOT NULL,
  ordinal bigint NOT NULL,
  source_committed_at timestamptz NOT NULL,
  applied_at timestamptz NOT NULL,
  PRIMARY KEY (topic, partition)
)`;

const CREATE_REPLICA = "CREATE TABLE IF NOT EXISTS cascade.replica (id uuid PRIMARY KEY)";
/** The table's name is that of the replica's table, which is another than the source's only while that is taken. */
const CREATE_TABLES = `CREATE TABLE IF NOT EXISTS cascade.tables (
  named_schema text NOT NULL,
  named_table text NOT NULL,
  oid bigint NOT NULL UNIQUE,
  source_schema text NOT NULL,
  source_table text NOT NULL,
  schema text NOT NULL,
  commit_lsn pg_lsn NOT NULL,
  ordinal bigint NOT NULL,
  revision bigint NOT NULL,
  awaiting text,
  PRIMARY KEY (named_schema, named_table)
)`;
export const heldRows = new HeldRows({
  table: "cascade.held_keys",
  types: ["text", "text", "bigint"],
  partition: "partition",
  numbered: true,
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
});
export const shardRow = new ShardRow({
  table: "cascade.shard",
  progress: "cascade.progress",
  textType: "text",
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
  parameter: (at) => `$${at}`,
});
const REPLICA_ID = `WITH made AS (INSERT INTO cascade.replica (id) SELECT gen_random_uuid() WHERE NOT EXISTS (SELECT 1 FROM cascade.replica) RETURNING id)
  SELECT id::text FROM made UNION ALL SELECT id::text FROM cascade.replica LIMIT 1`;

/** Held while tables are made: IF NOT EXISTS alone fails when two routers start at once. */
export const SCHEMA_CHANGE_LOCK: Query = { text: "SELECT pg_advisory_xact_lock(hashtextextended('cascade schema change', 0))" };

/** Makes the schema unless it is there: asking for it would take a right that only making it needs. */
export async function ensureSchema(session: PostgresSession, name: string, quoted: string): Promise<void> {
  const [found] = await session.run([{ text: "SELECT 1 FROM pg_namespace WHERE nspname = $1", values: [name] }]);
  if (found?.rows.length === 0) await session.run([{ text: `CREATE SCHEMA IF NOT EXISTS ${quoted}` }]);
}

/** Makes what Cascade keeps in the replica unless it is there; resolves to the replica's own id. */
export function ensureOwnTables(session: PostgresSession): Promise<string> {
  return session.transaction(async () => {
    const [, found] = await session.run([
      SCHEMA_CHANGE_LOCK,
      {
        text: "SELECT count(*) = 5 AS exists FROM unnest('{progress,replica,tables,held_keys,shard}'::text[]) AS name WHERE to_regclass('cascade.' || name) IS NOT NULL",
      },
    ]);
    if (found?.rows[0]?.["exists"] !== true) {
      await ensureSchema(session, "cascade", "cascade");
      await session.run(
        [CREATE_PROGRESS, CREATE_REPLICA, CREATE_TABLES, heldRows.createText, shardRow.createText].map((text) => ({ text })),
      );
    }
    const [answer] = await session.run([{ text: REPLICA_ID }]);
    return String(answer?.rows[0]?.["id"]);
  });
}

const READ = `SELECT partition::text, next_offset::text, commit_lsn::text, ordinal::text,
    round(extract(epoch FROM source_committed_at) * 1000)::bigint::text AS committed_at_ms
    FROM cascade.progress WHERE topic = $1`;
type ProgressRow = Record<"partition" | "next_offset" | "commit_lsn" | "ordinal" | "committed_at_ms", string>;

export async function readProgress(session: PostgresSession, partition: Partition): Promise<Progress | null> {
  const [answer] = await session.run([{ text: `${READ} AND partition = $2`, values: [partition.topic, partition.partition] }]);
  const row = answer?.rows[0] as ProgressRow | undefined;
  return row === undefined ? null : progressOfRow(row);
}

export async function readProgressOf(session: PostgresSession, topic: string): Promise<ReadonlyMap<number, Progress>> {
  const [answer] = await session.run([{ text: READ, values: [topic] }]);
  return new Map(((answer?.rows ?? []) as ProgressRow[]).map((row) => [Number(row.partition), progressOfRow(row)]));
}

const progressOfRow = (row: ProgressRow): Progress => ({
  nextOffset: BigInt(row.next_offset),
  commitLsn: parseLsn(row.commit_lsn),
  ordinal: Number(row.ordinal),
  sourceCommittedAtMs: Number(row.committed_at_ms),
});

const MILLISECONDS = "* interval '1 millisecond' + timestamptz 'epoch'";
const INSERT = `INSERT INTO cascade.progress (topic, partition, next_offset, commit_lsn, ordinal, source_committed_at, applied_at)
  VALUES ($1, $2, $3, $4, $5, $6::bigint ${MILLISECONDS}, clock_timestamp()) ON CONFLICT (topic, partition) DO NOTHING`;
const UPDATE = `UPDATE cascade.progress SET next_offset = $3, commit_lsn = $4, ordinal = $5,
    source_committed_at = $6::bigint ${MILLISECONDS}, applied_at = clock_timestamp()
  WHERE topic = $1 AND partition = $2 AND next_offset = $7 AND commit_lsn = $8 AND ordinal = $9`;

/** The compare-and-set. Its row lock also makes every other router wait that is about to move the same partition. */
export function advanceQuery({ partition, from, to }: Advance): Query {
  const values = [
    partition.topic,
    partition.partition,
    to.nextOffset,
    formatLsn(to.commitLsn),
    to.ordinal,
    to.sourceCommittedAtMs,
  ];
  if (from === null) return { text: INSERT, values };
  return { text: UPDATE, values: [...values, from.nextOffset, formatLsn(from.commitLsn), from.ordinal] };
}

/** Throws FencedError when the compare-and-set found another value than `from`. */
export function checkAdvanced(answer: Answer | undefined, { partition }: Advance): void {
  if (answer?.rowCount !== 1) throw new FencedError(partition.topic, partition.partition);
}
