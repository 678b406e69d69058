import { FencedError } from "@cascade/shared/errors";
import { formatLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import { quoteMysql } from "../dialects/mysql.ts";
import { renameText } from "../dialects/mysql-changes.ts";
import { flatTableName } from "../dialects/table-names.ts";
import type { Partition } from "../event-consumer.ts";
import type { RememberedTable, TableChange, Work } from "../replica.ts";
import { findMysqlTable } from "./mysql-catalog.ts";
import type { MysqlSession } from "./mysql-session.ts";
import { mayBeMadeBy, rememberedOf } from "./remembered-row.ts";

/** cascade_tables: which source table each table of the replica stands for, and what that is like now. */

/**
 * Which source table each name stands for: there are no schemas, and a server may fold case, so two tables may want one name. `oid` is
 * NULL where an older Cascade, or `prepare` alone, has claimed the name. `pending`: what a change under way makes of the table.
 */
const COLUMNS = (collation: string): Readonly<Record<string, string>> => {
  const name = `VARCHAR(64) CHARACTER SET utf8mb4 COLLATE ${collation}`;
  const text = `LONGTEXT CHARACTER SET utf8mb4 COLLATE ${collation}`;
  return {
    oid: "BIGINT UNSIGNED NULL UNIQUE",
    named_schema: `${name} NULL`,
    named_table: `${name} NULL`,
    schema: `${text} NULL`,
    commit_lsn: "VARCHAR(17) CHARACTER SET ascii COLLATE ascii_bin NULL",
    ordinal: "BIGINT NULL",
    revision: "BIGINT NOT NULL DEFAULT 0",
    awaiting: `${text} NULL`,
    pending: `${text} NULL`,
  };
};

export const createTables = (collation: string): string => `CREATE TABLE IF NOT EXISTS cascade_tables (
  name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL PRIMARY KEY,
  source_schema VARCHAR(64) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL,
  source_table VARCHAR(64) CHARACTER SET utf8mb4 COLLATE ${collation} NOT NULL
) ENGINE=InnoDB`;

/** Gives the table of an older Cascade, or a new one, what it lacks. Of two routers that start at once one waits for the other. */
export async function upgradeTables(session: MysqlSession, collation: string): Promise<void> {
  const missing = async () => {
    const found = await session.query(
      "SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'cascade_tables'",
    );
    const names = new Set(found.map(({ name }) => String(name)));
    return Object.entries(COLUMNS(collation)).filter(([name]) => !names.has(name));
  };
  if ((await missing()).length === 0) return;
  await locked(session, ["tables"], LOCK_WAIT_S, async () => {
    const added = (await missing()).map(([name, type]) => `ADD COLUMN \`${name}\` ${type}`);
    if (added.length > 0) await session.query(`ALTER TABLE cascade_tables ${added.join(", ")}`);
  });
}

const LOCK_WAIT_S = 10;

/** What a change makes of its table; written before any DDL, which commits. */
export type Pending =
  | {
      readonly kind: "alter";
      /** In the table's comment once it is altered. */
      readonly mark: string;
      readonly schema: TableSchema;
      readonly commitLsn: string;
      readonly ordinal: number;
      readonly named: TableName;
      /** To be run after that; may be run again. */
      readonly last: readonly string[];
      /** All that main-db did is done then; else what is done can be asked for again. */
      readonly isWhole: boolean;
    }
  | { readonly kind: "create" }
  | { readonly kind: "drop" };

const CREATING = JSON.stringify({ kind: "create" } satisfies Pending);

/** In no table's comment but by this one change. */
export const newMark = (): string => `[cascade ${crypto.randomUUID()}]`;

/** The user's own comment stays before ours. */
export function markedComment(comment: string, mark: string): string {
  const own = comment.replace(/ ?\[cascade [0-9a-f-]{36}\]$/, "");
  const marked = own === "" ? mark : `${own} ${mark}`;
  return marked.length <= LONGEST_COMMENT ? marked : mark;
}

const LONGEST_COMMENT = 2_048;

/** The name under which cascade_tables has it. */
export const claimedName = (session: MysqlSession, named: TableName): string => {
  const name = flatTableName(named);
  return session.foldsTableNames ? name.toLowerCase() : name;
};

/** `work` while no other router changes these; null when one still does after `seconds`. For every session of the database. */
export async function locked<T>(
  session: MysqlSession,
  things: readonly (string | number)[],
  seconds: number,
  work: () => Promise<T>,
): Promise<T | null> {
  const [thing, ...others] = things;
  if (thing === undefined) return work();
  const name = "CONCAT('cascade ', LEFT(SHA2(DATABASE(), 256), 32), ?)";
  const [answer] = await session.query(`SELECT GET_LOCK(${name}, ?) AS got`, [` ${thing}`, seconds]);
  if (Number(answer?.["got"]) !== 1) return null;
  try {
    return await locked(session, others, seconds, work);
  } finally {
    await session.query(`SELECT RELEASE_LOCK(${name})`, [` ${thing}`]).catch(() => {}); // a lost connection has let it go
  }
}

const READ =
  "SELECT CAST(oid AS CHAR) AS oid, `schema`, named_schema, named_table, commit_lsn, CAST(ordinal AS CHAR) AS ordinal, CAST(revision AS CHAR) AS revision, awaiting, pending FROM cascade_tables WHERE oid IS NOT NULL";

/** What a change left undone is ended first, unless that change is still under way elsewhere. To be called alone on the connection. */
export async function readRemembered(session: MysqlSession, oids?: readonly number[]): Promise<readonly RememberedTable[]> {
  const read = () => session.query(oids === undefined ? READ : `${READ} AND oid IN (${["NULL", ...oids].join(", ")})`);
  const rows = await read();
  const pending = rows.filter((row) => row["pending"] !== null);
  for (const { oid } of pending) await locked(session, [String(oid)], 0, () => settle(session, Number(oid)));
  return (pending.length === 0 ? rows : await read()).map(rememberedOf);
}

/** Ends what a crash left undone: the table is as it was, or as it was to be, and says which. To be called under its lock. */
export async function settle(session: MysqlSession, oid: number): Promise<void> {
  const [row] = await session.query(
    "SELECT pending, CAST(revision AS CHAR) AS revision, name FROM cascade_tables WHERE oid = ?",
    [oid],
  );
  if (row === undefined || row["pending"] === null) return;
  const pending = JSON.parse(String(row["pending"])) as Pending;
  const revision = Number(row["revision"]);
  if (pending.kind === "create") {
    // Made or found: whether it fits is seen when it is needed.
    if ((await findMysqlTable(session, String(row["name"]))) !== null) await forget(session, oid);
    else await disown(session, oid);
    return;
  }
  if (pending.kind === "drop") {
    if ((await findMysqlTable(session, String(row["name"]))) !== null) await forget(session, oid);
    else await session.query("DELETE FROM cascade_tables WHERE oid = ? AND revision = ?", [oid, revision]);
    return;
  }
  if (!(await endRename(session, { from: String(row["name"]), to: flatTableName(pending.named), mark: pending.mark })))
    return forget(session, oid);
  for (const text of pending.last) await session.query(text);
  if (!pending.isWhole) return forget(session, oid);
  await remember(session, { oid, revision }, pending);
}

/** Gives a table that was altered its new name, where it has not got it. False when it was not altered, or the name is another's. */
async function endRename(
  session: MysqlSession,
  { from, to, mark }: { readonly from: string; readonly to: string; readonly mark: string },
): Promise<boolean> {
  const isMarked = async (name: string) => (await findMysqlTable(session, name))?.comment.includes(mark) === true;
  if (await isMarked(to)) return true;
  if (!(await isMarked(from)) || (await findMysqlTable(session, to)) !== null) return false;
  await session.query(renameText(quoteMysql(from), quoteMysql(to)));
  return true;
}

/** The table came to nothing; its name stays claimed for whoever has it. */
export async function disown(session: MysqlSession, oid: number): Promise<void> {
  const text =
    "UPDATE cascade_tables SET source_schema = named_schema, source_table = named_table, oid = NULL, awaiting = NULL, pending = NULL WHERE oid = ?";
  await session.query(text, [oid]);
}

/** The change is over. */
export async function forget(session: MysqlSession, oid: number): Promise<void> {
  await session.query("UPDATE cascade_tables SET pending = NULL WHERE oid = ?", [oid]);
}

/**
 * Whether a table of that name may be made for it: not while it is being altered or dropped, by a router that may be gone by now, nor
 * where it is called otherwise since the caller has read that. To be called under its lock.
 */
export async function mayBeMade(
  session: MysqlSession,
  { oid }: TableSchema,
  named: TableName,
  revision?: number,
): Promise<boolean> {
  const text = "SELECT name = ? AND (pending IS NULL OR pending = ?) AS free, revision FROM cascade_tables WHERE oid = ?";
  const [row] = await session.query(text, [claimedName(session, named), CREATING, oid]);
  return mayBeMadeBy(row === undefined ? null : { isCalledSo: Number(row["free"]) === 1, revision: row["revision"] }, revision);
}

type Told = Pick<RememberedTable, "oid" | "revision">;

export async function isAsRemembered(session: MysqlSession, { oid, revision }: Told): Promise<boolean> {
  const text = "SELECT 1 FROM cascade_tables WHERE oid = ? AND revision = ? AND pending IS NULL";
  return (await session.query(text, [oid, revision])).length === 1;
}

/** From now on no router applies a row to the table. False when it is not as it was remembered. */
export async function begin(session: MysqlSession, { oid, revision }: Told, pending: Pending): Promise<boolean> {
  const text = "UPDATE cascade_tables SET pending = ? WHERE oid = ? AND revision = ? AND pending IS NULL";
  return (await session.change(text, [JSON.stringify(pending), oid, revision])) === 1;
}

/** False when somebody else has changed it. */
export async function remember(
  session: MysqlSession,
  { oid, revision }: Told,
  { schema, commitLsn, ordinal, named }: Omit<Extract<Pending, { kind: "alter" }>, "kind" | "mark" | "last" | "isWhole">,
): Promise<boolean> {
  const text =
    "UPDATE cascade_tables SET name = ?, named_schema = ?, named_table = ?, source_schema = ?, source_table = ?, `schema` = ?, commit_lsn = ?, ordinal = ?, pending = NULL, revision = revision + 1 WHERE oid = ? AND revision = ?";
  const names = [claimedName(session, named), named.schema, named.table, schema.schema, schema.table];
  // `prepare` has claimed the new name for it.
  await session.query("DELETE FROM cascade_tables WHERE name = ? AND oid IS NULL", [names[0] ?? ""]);
  return (await session.change(text, [...names, JSON.stringify(schema), commitLsn, ordinal, oid, revision])) === 1;
}

/**
 * Takes over a name that was claimed, before the table is made: one that a crash leaves is still known as whose it is. False when it is
 * another table's, or the table is remembered already.
 */
export async function rememberNew(
  session: MysqlSession,
  { schema, at, named, awaiting = null }: Extract<TableChange, { kind: "create" }>,
): Promise<boolean> {
  const text =
    "UPDATE IGNORE cascade_tables SET oid = ?, named_schema = ?, named_table = ?, source_schema = ?, source_table = ?, `schema` = ?, commit_lsn = ?, ordinal = ?, awaiting = ?, pending = ?, revision = revision + 1 WHERE name = ? AND oid IS NULL";
  const names = [named.schema, named.table, schema.schema, schema.table];
  const state = [JSON.stringify(schema), formatLsn(at.commitLsn), at.ordinal];
  const found = await session.change(text, [schema.oid, ...names, ...state, awaiting, CREATING, claimedName(session, named)]);
  const [row] = await session.query("SELECT name FROM cascade_tables WHERE oid = ?", [schema.oid]);
  return found === 1 && row?.["name"] === claimedName(session, named);
}

/** Within `apply`'s transaction: keeps the tables from being changed until it ends. Rejects with FencedError when one was. */
export async function checkUnchanged(session: MysqlSession, tables: Work["tables"], partition: Partition): Promise<void> {
  const isAsRead = "oid = ? AND revision = ? AND pending IS NULL";
  for (const { oid, revision, renews } of tables ?? []) {
    const found = renews
      ? await session.change(`UPDATE cascade_tables SET revision = revision + 1 WHERE ${isAsRead}`, [oid, revision])
      : (await session.query(`SELECT 1 FROM cascade_tables WHERE ${isAsRead} LOCK IN SHARE MODE`, [oid, revision])).length;
    if (found !== 1) throw new FencedError(partition.topic, partition.partition, `the table of ${partition.topic}`);
  }
}
