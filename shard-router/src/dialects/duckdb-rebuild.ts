import type { ChangedColumns, TableChangeOptions } from "./changed-columns.ts";
import type { ChangedIndex, ChangedTable, Target } from "./duckdb-changes.ts";
import { nameIn, schemaOf } from "./duckdb-names.ts";
import { quote } from "./sql.ts";
import { foldAscii } from "./table-names.ts";

/** A table made anew from itself, where DuckDB does not alter it; pure. */

export interface KeptIndex {
  readonly name: string;
  readonly isUnique: boolean;
  /** null: of an expression, which may name a column that is renamed or changed. */
  readonly columns: readonly string[] | null;
}

/** An index goes with a column of its own, as on main-db. */
export function keptIndex(
  { name, isUnique, parts }: ChangedIndex,
  names: ReadonlyMap<string, string>,
  gone: ReadonlySet<string>,
): readonly KeptIndex[] {
  const columns: string[] = [];
  for (const part of parts) {
    const column = foldAscii(part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part);
    if (gone.has(column)) return [];
    const now = names.get(column);
    if (now === undefined) return [{ name, isUnique, columns: null }];
    columns.push(now);
  }
  return [{ name, isUnique, columns }];
}

export interface Rebuilding {
  readonly targets: readonly Target[];
  readonly kept: readonly KeptIndex[];
  readonly changed: ChangedColumns;
}

export function rebuild(
  table: ChangedTable,
  { targets, kept, changed }: Rebuilding,
  { from, to, sqlName, empties }: TableChangeOptions,
): readonly string[] {
  const schema = schemaOf(sqlName);
  const made = `${schema}.${quote(`cascade ${to.oid}`)}`;
  const lines = targets.map(
    ({ name, type, notNull, default: given }) =>
      `${quote(name)} ${type}${given === null ? "" : ` DEFAULT ${given}`}${notNull ? " NOT NULL" : ""}`,
  );
  const names = new Map(targets.flatMap(({ was, name }) => (was === null ? [] : [[foldAscii(was), name] as const])));
  const now = (columns: readonly string[]) => columns.flatMap((column) => names.get(foldAscii(column)) ?? []);
  const isOldKey = (columns: readonly string[]) => changed.dropsKey && sameNames(columns, now(from.key));
  const key = changed.newKey ?? (changed.dropsKey ? [] : now(table.primaryKey));
  if (key.length > 0) lines.push(`PRIMARY KEY (${key.map(quote).join(", ")})`);
  for (const columns of table.uniques)
    if (now(columns).length === columns.length) lines.push(`UNIQUE (${now(columns).map(quote).join(", ")})`);
  const filled = targets.filter(({ value }) => value !== null);
  return [
    `CREATE SCHEMA IF NOT EXISTS ${schema}`,
    `CREATE TABLE ${made} (${lines.join(", ")})`,
    ...(empties || filled.length === 0
      ? []
      : [
          `INSERT INTO ${made} (${filled.map(({ name }) => quote(name)).join(", ")}) SELECT ${filled.map(({ value }) => value).join(", ")} FROM ${table.sqlName}`,
        ]),
    `DROP TABLE ${table.sqlName}`,
    `ALTER TABLE ${made} RENAME TO ${nameIn(sqlName)}`,
    ...kept.flatMap(({ name, isUnique, columns }) =>
      columns === null || (isUnique && isOldKey(columns))
        ? []
        : [`CREATE ${isUnique ? "UNIQUE " : ""}INDEX ${quote(name)} ON ${sqlName} (${columns.map(quote).join(", ")})`],
    ),
  ];
}

const sameNames = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((name) => b.some((other) => foldAscii(other) === foldAscii(name)));
