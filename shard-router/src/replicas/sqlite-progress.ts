import type { Database } from "bun:sqlite";
import { FencedError } from "@cascade/shared/errors";
import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Progress } from "../replica.ts";
import { HeldRows } from "./held-rows.ts";
import { ShardRow } from "./shard-row.ts";

/** `commit_lsn` in PostgreSQL's text form (unsigned 64 bits do not fit an INTEGER), times in ISO 8601 and UTC. */
export const CREATE_PROGRESS = `CREATE TABLE IF NOT EXISTS cascade_progress (
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  next_offset INTEGER NOT NULL,
  commit_lsn TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  source_committed_at TEXT NOT NULL,
  applied_at TEXT NOT NULL,
  PRIMARY KEY (topic, partition)
) STRICT`;

export const heldRows = new HeldRows({
  table: "cascade_held_keys",
  types: ["TEXT", "TEXT", "INTEGER"],
  tableOptions: " STRICT",
  partition: "partition",
  numbered: false,
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
});

export const shardRow = new ShardRow({
  table: "cascade_shard",
  progress: "cascade_progress",
  textType: "TEXT",
  tableOptions: " STRICT",
  insert: ["INSERT", " ON CONFLICT DO NOTHING"],
  parameter: () => "?",
});

const CREATE_REPLICA = "CREATE TABLE IF NOT EXISTS cascade_replica (id TEXT NOT NULL PRIMARY KEY) STRICT";

/** The replica's own id, made when missing. To be called in a transaction that has the write lock. */
export function ensureReplicaId(database: Database): string {
  database.run(CREATE_REPLICA);
  database.run("INSERT INTO cascade_replica (id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM cascade_replica)", [
    crypto.randomUUID(),
  ]);
  return database.query<{ id: string }, []>("SELECT id FROM cascade_replica").get()?.id ?? "";
}

interface ProgressRow {
  readonly partition: number;
  readonly next_offset: string;
  readonly commit_lsn: string;
  readonly ordinal: number;
  readonly source_committed_at: string;
}

const READ =
  "SELECT partition, CAST(next_offset AS TEXT) AS next_offset, commit_lsn, ordinal, source_committed_at FROM cascade_progress WHERE topic = ?";

export function readProgress(database: Database, { topic, partition }: Partition): Progress | null {
  const row = database.query<ProgressRow, [string, number]>(`${READ} AND partition = ?`).get(topic, partition);
  return row === null ? null : progressOfRow(row);
}

export function readProgressOf(database: Database, topic: string): ReadonlyMap<number, Progress> {
  const rows = database.query<ProgressRow, [string]>(READ).all(topic);
  return new Map(rows.map((row) => [row.partition, progressOfRow(row)]));
}

const progressOfRow = (row: ProgressRow): Progress => ({
  nextOffset: BigInt(row.next_offset),
  commitLsn: parseLsn(row.commit_lsn),
  ordinal: row.ordinal,
  sourceCommittedAtMs: Date.parse(row.source_committed_at),
});

const INSERT = `INSERT INTO cascade_progress (next_offset, commit_lsn, ordinal, source_committed_at, applied_at, topic, partition)
  VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (topic, partition) DO NOTHING`;
const UPDATE = `UPDATE cascade_progress SET next_offset = ?, commit_lsn = ?, ordinal = ?, source_committed_at = ?, applied_at = ?
  WHERE topic = ? AND partition = ? AND next_offset = ? AND commit_lsn = ? AND ordinal = ?`;

/** The compare-and-set, in a transaction that has the write lock. Throws FencedError when it finds another value than `from`. */
export function advanceProgress(database: Database, { partition, from, to }: Advance): void {
  const committedAt = new Date(to.sourceCommittedAtMs).toISOString();
  const now = new Date().toISOString();
  const next = [to.nextOffset, formatLsn(to.commitLsn), to.ordinal, committedAt, now, partition.topic, partition.partition];
  const { changes } =
    from === null
      ? database.query(INSERT).run(...next)
      : database.query(UPDATE).run(...next, from.nextOffset, formatLsn(from.commitLsn), from.ordinal);
  if (changes !== 1) throw new FencedError(partition.topic, partition.partition);
}
