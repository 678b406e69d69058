import type { TableSchema } from "@cascade/shared/table-schema";
import { foldName, quoteMysql } from "../dialects/mysql.ts";
import type { ChangedTable } from "../dialects/mysql-changes.ts";
import type { SchemaStep } from "../schema-change.ts";
import { type FoundTable, findMysqlTable, type UniqueIndex } from "./mysql-catalog.ts";
import type { MysqlSession } from "./mysql-session.ts";

/** A table that is to be changed, and the comment that says which change was the last; null when it is not there. */
export async function findChangedTable(
  session: MysqlSession,
  name: string,
  { from, steps }: { readonly from: TableSchema; readonly steps: readonly SchemaStep[] },
): Promise<(ChangedTable & { readonly comment: string }) | null> {
  const found = await findMysqlTable(session, name);
  if (found === null) return null;
  const sqlName = quoteMysql(name);
  const rows = await session.query(`SELECT 1 FROM ${sqlName} LIMIT 1`);
  const oldName = namesBefore(steps);
  const newKey = steps.flatMap((step) => (step.kind === "add-key" ? step.key.map(oldName) : []));
  const keyIndex = indexOn(found.uniqueIndexes, from.key)?.name ?? null;
  // The old key's own index goes, also where the new key has the same columns in another order.
  const others = found.uniqueIndexes.filter((index) => index.name !== keyIndex);
  return {
    sqlName,
    columns: found.columns,
    keyIndex,
    hasNewKey: newKey.length > 0 && indexOn(others, newKey) !== null,
    isEmpty: rows.length === 0,
    withNulls: await columnsWithNulls(session, sqlName, found, steps),
    comment: found.comment,
  };
}

function namesBefore(steps: readonly SchemaStep[]): (name: string) => string {
  const renames = steps.flatMap((step) => (step.kind === "rename-columns" ? step.renames : []));
  const names = new Map(renames.map(({ from, to }) => [to, from]));
  return (name) => names.get(name) ?? name;
}

function indexOn(indexes: readonly UniqueIndex[], key: readonly string[]): UniqueIndex | null {
  const wanted = key.map(foldName);
  const fitting = indexes.filter(
    ({ columns }) => columns.length === wanted.length && wanted.every((column) => columns.includes(column)),
  );
  return fitting.find(({ name }) => name === "PRIMARY") ?? fitting[0] ?? null;
}

async function columnsWithNulls(
  session: MysqlSession,
  sqlName: string,
  { columns }: FoundTable,
  steps: readonly SchemaStep[],
): Promise<ReadonlySet<string>> {
  const oldName = namesBefore(steps);
  const named = steps.flatMap((step) =>
    step.kind === "set-not-null" ? [step.column.name] : step.kind === "add-key" ? step.key : [],
  );
  const there = new Set(columns.map(({ name }) => foldName(name)));
  const withNulls = new Set<string>();
  for (const name of new Set(named)) {
    const old = foldName(oldName(name));
    // Somebody may have renamed it already.
    const found = [old, foldName(name)].find((candidate) => there.has(candidate));
    if (found === undefined) continue;
    const rows = await session.query(`SELECT 1 FROM ${sqlName} WHERE ${quoteMysql(found)} IS NULL LIMIT 1`);
    if (rows.length > 0) withNulls.add(old);
  }
  return withNulls;
}
