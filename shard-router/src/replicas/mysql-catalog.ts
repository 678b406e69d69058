import { foldName } from "../dialects/mysql.ts";
import type { MysqlRow, MysqlSession } from "./mysql-session.ts";

/** A table as information_schema has it. */
export interface FoundTable {
  /** BASE TABLE, VIEW, ... */
  readonly kind: string;
  readonly engine: string;
  readonly columns: readonly FoundColumn[];
  readonly uniqueIndexes: readonly UniqueIndex[];
  /** The table's comment: of a table that was changed, which change was the last. */
  readonly comment: string;
}

export interface UniqueIndex {
  readonly name: string;
  /** Folded names, of whole columns. */
  readonly columns: readonly string[];
}

export interface FoundColumn {
  readonly name: string;
  /** COLUMN_TYPE, e.g. `decimal(12,4)`. */
  readonly type: string;
  readonly nullable: boolean;
  readonly hasDefault: boolean;
  readonly generated: boolean;
  /** Generated when it is read: such a column cannot be altered into an ordinary one. */
  readonly virtual: boolean;
  readonly autoIncrement: boolean;
  /** ON UPDATE CURRENT_TIMESTAMP: the server writes the time into it whenever a statement changes the row and does not name it. */
  readonly onUpdate: boolean;
  readonly charset: string | null;
  readonly collation: string | null;
  readonly comment: string;
}

/** null when there is none of exactly this name. */
export async function findMysqlTable(session: MysqlSession, name: string): Promise<FoundTable | null> {
  const tables = await session.query(
    "SELECT TABLE_NAME AS name, TABLE_TYPE AS kind, ENGINE AS engine, TABLE_COMMENT AS comment FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
    [name],
  );
  const table = tables.find((row) => isNamed(session, row, name));
  if (table === undefined) return null;
  const columns = await session.query(
    `SELECT TABLE_NAME AS name, COLUMN_NAME AS col, COLUMN_TYPE AS type, IS_NULLABLE AS nullable, EXTRA AS extra, CHARACTER_SET_NAME AS charset,
       COLLATION_NAME AS collation, COLUMN_COMMENT AS comment, COLUMN_DEFAULT IS NOT NULL AND COLUMN_DEFAULT <> 'NULL' AS has_default, coalesce(GENERATION_EXPRESSION, '') <> '' AS generated
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`,
    [name],
  );
  const parts = await session.query(
    `SELECT TABLE_NAME AS name, INDEX_NAME AS idx, COLUMN_NAME AS col, SUB_PART AS part FROM information_schema.STATISTICS
     WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX`,
    [name],
  );
  return {
    kind: String(table["kind"]),
    engine: String(table["engine"]),
    columns: columns.filter((row) => isNamed(session, row, name)).map(foundColumn),
    comment: String(table["comment"]),
    uniqueIndexes: uniqueIndexes(parts.filter((row) => isNamed(session, row, name))),
  };
}

/** information_schema compares without regard to case, the server maybe not. */
const isNamed = (session: MysqlSession, row: MysqlRow, name: string): boolean =>
  row["name"] === name || (session.foldsTableNames && String(row["name"]).toLowerCase() === name.toLowerCase());

function foundColumn(row: MysqlRow): FoundColumn {
  const extra = String(row["extra"]).toLowerCase();
  return {
    name: String(row["col"]),
    type: String(row["type"]),
    nullable: row["nullable"] === "YES",
    hasDefault: Number(row["has_default"]) === 1 || extra.includes("auto_increment") || extra.includes("default_generated"),
    generated: Number(row["generated"]) === 1,
    virtual: extra.includes("virtual"),
    autoIncrement: extra.includes("auto_increment"),
    onUpdate: extra.includes("on update"),
    charset: row["charset"] === null ? null : String(row["charset"]),
    collation: row["collation"] === null ? null : String(row["collation"]),
    comment: String(row["comment"]),
  };
}

/** An index over the beginning of a column, or over an expression, is none on the column; it is unique all the same. */
function uniqueIndexes(parts: readonly MysqlRow[]): readonly UniqueIndex[] {
  const indexes = new Map<string, string[]>();
  for (const row of parts) {
    const columns = indexes.get(String(row["idx"])) ?? [];
    const whole = row["part"] === null && row["col"] !== null;
    columns.push(whole ? foldName(String(row["col"])) : `${String(row["col"])} in part`);
    indexes.set(String(row["idx"]), columns);
  }
  return [...indexes].map(([name, columns]) => ({ name, columns }));
}
