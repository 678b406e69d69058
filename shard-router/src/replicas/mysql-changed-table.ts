import { foldName, quoteMysql } from "../dialects/mysql.ts";
import type { ChangedTable } from "../dialects/mysql-changes.ts";
import { findMysqlTable } from "./mysql-catalog.ts";
import type { MysqlSession } from "./mysql-session.ts";

/** A table that is to be changed, and the comment that says which change was the last; null when it is not there. */
export async function findChangedTable(
  session: MysqlSession,
  name: string,
  key: readonly string[],
): Promise<(ChangedTable & { readonly comment: string }) | null> {
  const found = await findMysqlTable(session, name);
  if (found === null) return null;
  const sqlName = quoteMysql(name);
  const rows = await session.query(`SELECT 1 FROM ${sqlName} LIMIT 1`);
  const wanted = key.map(foldName);
  const isKey = ({ columns }: { readonly columns: readonly string[] }) =>
    columns.length === wanted.length && wanted.every((column) => columns.includes(column));
  const indexes = found.uniqueIndexes.filter(isKey);
  return {
    sqlName,
    columns: found.columns,
    keyIndex: (indexes.find((index) => index.name === "PRIMARY") ?? indexes[0])?.name ?? null,
    isEmpty: rows.length === 0,
    comment: found.comment,
  };
}
