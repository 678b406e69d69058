import { FencedError } from "@cascade/shared/errors";
import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Progress } from "../replica.ts";
import type { DuckdbSession } from "./duckdb-session.ts";
import { HeldRows } from "./held-rows.ts";
import { ShardRow } from "./shard-row.ts";

/** `commit_lsn` in PostgreSQL's text form: it reads like every other LSN an operator meets. */
const CREATE_PROGRESS = `CREATE TABLE IF NOT EXISTS main.cascade_progress (
  topic VARCHAR NOT NULL,
  partition INTEGER NOT NULL,
  next_offset BIGINT NOT NULL,
  commit_lsn VARCHAR NOT NULL,
  ordinal BIGINT NOT NULL,
  source_committed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  applied_at TIMESTAMP WITH TIME ZONE NOT NULL,
  PRIMARY KEY (topic, partition)
)`;
export const heldRows = new HeldRows({
  table: "main.cascade_held_keys",
  types: ["VARCHAR", "VARCHAR", "BIGINT"],
  partition: "partition",
  numbered: true,
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
});
export const shardRow = new ShardRow({
  table: "main.cascade_shard",
  progress: "main.cascade_progress",
  textType: "VARCHAR",
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
  parameter: (at) => `$${at}`,
});
const CREATE_REPLICA = "CREATE TABLE IF NOT EXISTS main.cascade_replica (id UUID PRIMARY KEY)";

/** Makes what Cascade keeps in the file unless it is there; resolves to the replica's own id. To be called in a transaction. */
export async function ensureOwnTables(session: DuckdbSession): Promise<string> {
  await session.run(CREATE_PROGRESS);
  await session.run(CREATE_REPLICA);
  await session.run(heldRows.createText);
  await session.run(shardRow.createText);
  await session.run(
    "INSERT INTO main.cascade_replica (id) SELECT $1::UUID WHERE NOT EXISTS (SELECT 1 FROM main.cascade_replica)",
    [crypto.randomUUID()],
  );
  const [row] = await session.rows("SELECT id FROM main.cascade_replica");
  return String(row?.["id"]);
}

const READ = `SELECT partition, next_offset::VARCHAR AS next_offset, commit_lsn, ordinal::VARCHAR AS ordinal, epoch_ms(source_committed_at)::VARCHAR AS committed_at_ms
  FROM main.cascade_progress WHERE topic = $1`;

export async function readProgress(session: DuckdbSession, { topic, partition }: Partition): Promise<Progress | null> {
  const [row] = await session.rows(`${READ} AND partition = $2::INTEGER`, [topic, BigInt(partition)]);
  return row === undefined ? null : progressOfRow(row);
}

export async function readProgressOf(session: DuckdbSession, topic: string): Promise<ReadonlyMap<number, Progress>> {
  return new Map((await session.rows(READ, [topic])).map((row) => [Number(row["partition"]), progressOfRow(row)]));
}

const progressOfRow = (row: Readonly<Record<string, unknown>>): Progress => ({
  nextOffset: BigInt(String(row["next_offset"])),
  commitLsn: parseLsn(String(row["commit_lsn"])),
  ordinal: Number(row["ordinal"]),
  sourceCommittedAtMs: Number(row["committed_at_ms"]),
});

const INSERT = `INSERT INTO main.cascade_progress (topic, partition, next_offset, commit_lsn, ordinal, source_committed_at, applied_at)
  VALUES ($1, $2::INTEGER, $3, $4, $5, $6::TIMESTAMPTZ, $7::TIMESTAMPTZ) ON CONFLICT (topic, partition) DO NOTHING`;
const UPDATE = `UPDATE main.cascade_progress SET next_offset = $3, commit_lsn = $4, ordinal = $5,
    source_committed_at = $6::TIMESTAMPTZ, applied_at = $7::TIMESTAMPTZ
  WHERE topic = $1 AND partition = $2::INTEGER AND next_offset = $8 AND commit_lsn = $9 AND ordinal = $10`;

/** The compare-and-set, in a transaction. Rejects with FencedError when it finds another value than `from`. */
export async function advanceProgress(session: DuckdbSession, { partition, from, to }: Advance): Promise<void> {
  const next = [
    partition.topic,
    BigInt(partition.partition),
    to.nextOffset,
    formatLsn(to.commitLsn),
    BigInt(to.ordinal),
    new Date(to.sourceCommittedAtMs).toISOString(),
    new Date().toISOString(),
  ];
  const changed =
    from === null
      ? await session.run(INSERT, next)
      : await session.run(UPDATE, [...next, from.nextOffset, formatLsn(from.commitLsn), BigInt(from.ordinal)]);
  if (changed !== 1) throw new FencedError(partition.topic, partition.partition);
}
