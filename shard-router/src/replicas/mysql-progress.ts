import { FencedError } from "@cascade/shared/errors";
import { formatLsn, parseLsn } from "@cascade/shared/lsn";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Progress } from "../replica.ts";
import { HeldRows } from "./held-rows.ts";
import { createTables, upgradeTables } from "./mysql-remembered.ts";
import type { MysqlSession } from "./mysql-session.ts";
import { ShardRow } from "./shard-row.ts";

/** `commit_lsn` in PostgreSQL's text form, as on every replica; times in UTC. */
const createProgress = (collation: string): string => `CREATE TABLE IF NOT EXISTS cascade_progress (
  topic VARCHAR(249) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL,
  \`partition\` INT NOT NULL,
  next_offset BIGINT NOT NULL,
  commit_lsn VARCHAR(17) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  ordinal BIGINT NOT NULL,
  source_committed_at DATETIME(3) NOT NULL,
  applied_at DATETIME(6) NOT NULL,
  PRIMARY KEY (topic, \`partition\`)
) ENGINE=InnoDB`;
const CREATE_REPLICA = `CREATE TABLE IF NOT EXISTS cascade_replica (
  one BOOLEAN NOT NULL DEFAULT TRUE PRIMARY KEY,
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE=InnoDB`;

const ANY_TEXT = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
export const heldRows = new HeldRows({
  table: "cascade_held_keys",
  // A topic's name is ASCII.
  types: ["VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin", ANY_TEXT, "BIGINT"],
  tableOptions: " ENGINE=InnoDB",
  partition: "`partition`",
  numbered: false,
  insert: ["INSERT IGNORE", ""],
});

export const shardRow = new ShardRow({
  table: "cascade_shard",
  progress: "cascade_progress",
  textType: ANY_TEXT,
  tableOptions: " ENGINE=InnoDB",
  insert: ["INSERT IGNORE", ""],
  parameter: () => "?",
});

const OWN_TABLES = ["cascade_progress", "cascade_replica", "cascade_tables", "cascade_held_keys", "cascade_shard"];

/** Makes what Cascade keeps in the replica unless it is there; resolves to the replica's own id. */
export async function ensureOwnTables(session: MysqlSession, collation: string): Promise<string> {
  const found = await session.query(
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN (?, ?, ?, ?, ?)",
    OWN_TABLES,
  );
  if (found.length < OWN_TABLES.length) {
    for (const text of [
      createProgress(collation),
      CREATE_REPLICA,
      createTables(collation),
      heldRows.createText,
      shardRow.createText,
    ])
      await session.query(text);
  }
  await upgradeTables(session, collation);
  // Of two routers that start at once one makes the row, and both read it.
  await session.query("INSERT IGNORE INTO cascade_replica (one, id) VALUES (TRUE, ?)", [crypto.randomUUID()]);
  const [row] = await session.query("SELECT id FROM cascade_replica");
  return String(row?.["id"]);
}

const READ =
  "SELECT `partition` AS number, CAST(next_offset AS CHAR) AS next_offset, commit_lsn, CAST(ordinal AS CHAR) AS ordinal, CAST(source_committed_at AS CHAR) AS source_committed_at FROM cascade_progress WHERE topic = ?";

export async function readProgress(session: MysqlSession, { topic, partition }: Partition): Promise<Progress | null> {
  const [row] = await session.query(`${READ} AND \`partition\` = ?`, [topic, partition]);
  return row === undefined ? null : progressOfRow(row);
}

export async function readProgressOf(session: MysqlSession, topic: string): Promise<ReadonlyMap<number, Progress>> {
  return new Map((await session.query(READ, [topic])).map((row) => [Number(row["number"]), progressOfRow(row)]));
}

const progressOfRow = (row: Readonly<Record<string, unknown>>): Progress => ({
  nextOffset: BigInt(String(row["next_offset"])),
  commitLsn: parseLsn(String(row["commit_lsn"])),
  ordinal: Number(row["ordinal"]),
  sourceCommittedAtMs: Date.parse(`${String(row["source_committed_at"]).replace(" ", "T")}Z`),
});

/** IGNORE, so that a row which is there already shows as nothing inserted: every value fits its column. */
const INSERT = `INSERT IGNORE INTO cascade_progress (next_offset, commit_lsn, ordinal, source_committed_at, applied_at, topic, \`partition\`)
  VALUES (?, ?, ?, ?, UTC_TIMESTAMP(6), ?, ?)`;
const UPDATE = `UPDATE cascade_progress SET next_offset = ?, commit_lsn = ?, ordinal = ?, source_committed_at = ?, applied_at = UTC_TIMESTAMP(6)
  WHERE topic = ? AND \`partition\` = ? AND next_offset = CAST(? AS SIGNED) AND commit_lsn = ? AND ordinal = ?`;

/** Rejects with FencedError when the partition's progress is not `from`. */
export async function checkProgress(session: MysqlSession, { partition, from }: Advance): Promise<void> {
  const now = await readProgress(session, partition);
  const isSame =
    now === null || from === null
      ? now === from
      : now.nextOffset === from.nextOffset && now.commitLsn === from.commitLsn && now.ordinal === from.ordinal;
  if (!isSame) throw new FencedError(partition.topic, partition.partition);
}

/** The compare-and-set, in a transaction. Its row lock also makes every other router wait. Rejects with FencedError for a stale `from`. */
export async function advanceProgress(session: MysqlSession, { partition, from, to }: Advance): Promise<void> {
  const committedAt = new Date(to.sourceCommittedAtMs).toISOString().replace("T", " ").replace("Z", "");
  const next = [String(to.nextOffset), formatLsn(to.commitLsn), to.ordinal, committedAt, partition.topic, partition.partition];
  const affected =
    from === null
      ? await session.change(INSERT, next)
      : await session.change(UPDATE, [...next, String(from.nextOffset), formatLsn(from.commitLsn), from.ordinal]);
  if (affected !== 1) throw new FencedError(partition.topic, partition.partition);
}
