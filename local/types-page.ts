import type { ColumnSchema } from "@cascade/shared/table-schema";
import { wireKind } from "../shard-router/src/row-shape.ts";
import type { TableDialect, TypeRow } from "../shard-router/src/types/type-row.ts";
import { columnTypeFor, TYPE_TABLE } from "../shard-router/src/types/type-table.ts";

/** docs/types.md's tables, written from the type table that makes the replicas' columns and drives the tests. */

const DIALECTS: readonly TableDialect[] = ["postgres", "mysql", "sqlite", "duckdb"];
/** What each dialect calls a column for any text. */
const TEXT: Readonly<Record<TableDialect, string>> = { postgres: "text", mysql: "LONGTEXT", sqlite: "TEXT", duckdb: "VARCHAR" };
const BYTEA = 17;

export function typesTables(): string {
  const groups = Map.groupBy(TYPE_TABLE, ({ group }) => group);
  return [...groups].map(([title, rows]) => section(title, rows)).join("\n\n");
}

function section(title: string, rows: readonly TypeRow[]): string {
  const lines = rows.flatMap((row) => {
    const shown = Map.groupBy(Object.entries(row.types), (entry) => columnsOf(entry).join(" | "));
    return [...shown].map(
      ([columns, types]) => `| ${names(types)} | ${wireForm(types[0]?.[1] ?? 0)} | ${columns} | ${remarks(row)} |`,
    );
  });
  const head = "| main-db | on the wire | PostgreSQL | MySQL, MariaDB | SQLite | DuckDB | edges |";
  return [`### ${title}`, "", head, "|---|---|---|---|---|---|---|", ...lines].join("\n");
}

const names = (types: readonly (readonly [string, number])[]): string => types.map(([type]) => `\`${type}\``).join(", ");

function columnsOf([type, typeOid]: readonly [string, number]): readonly string[] {
  const column: ColumnSchema = {
    name: "c",
    attnum: 1,
    type,
    typeOid,
    typmod: -1,
    nullable: true,
    default: null,
    generated: false,
  };
  return DIALECTS.map((dialect) => {
    const made = columnTypeFor(dialect, column);
    const shown = made === "TEXT" ? TEXT[dialect] : made;
    return dialect === "postgres" && shown === type ? "same" : `\`${shown}\``;
  });
}

function wireForm(typeOid: number): string {
  if (typeOid === BYTEA) return "base64";
  const kind = wireKind(typeOid);
  return kind === "integer" || kind === "float" ? "number" : kind;
}

function remarks({ note, refused = {} }: TypeRow): string {
  const who: Readonly<Record<TableDialect, string>> = {
    postgres: "PostgreSQL",
    mysql: "MySQL and MariaDB",
    sqlite: "SQLite",
    duckdb: "DuckDB",
  };
  const refusals = Object.entries(refused).map(
    ([dialect, values]) =>
      `${who[dialect as TableDialect]} refuse${dialect === "mysql" ? "" : "s"} ${values.map((value) => `\`${value}\``).join(", ")}`,
  );
  return [...(note === undefined ? [] : [note]), ...refusals].join("; ").replaceAll("|", "\\|");
}
