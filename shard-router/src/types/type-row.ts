import type { ColumnSchema } from "@cascade/shared/table-schema";

/**
 * What becomes of a type, or several of a kind, on every dialect. The rule behind it (docs/decisions/0015): a type of the engine's own where it holds every value exactly, or all but values that nobody
 * writes on purpose, which then stop the table (`refused`); else PostgreSQL's text. An engine's narrower type can be had by making the
 * table before the router does.
 */
export interface TypeRow {
  readonly group: TypeGroup;
  /** Types as main-db declares them, and their pg_type OIDs, which are the same on every server. */
  readonly types: Readonly<Record<string, number>>;
  readonly columns: Readonly<Record<TableDialect, ColumnRule>>;
  /** Values as a user of main-db writes them, edges above all. */
  readonly literals: readonly string[];
  /** The literals that the column made for them cannot hold. */
  readonly refused?: Readonly<Partial<Record<TableDialect, readonly string[]>>>;
  /** Has no equality, so that it can be in no key. */
  readonly unordered?: true;
  /** What a reader should know besides. */
  readonly note?: string;
}

/** MySQL and MariaDB make the same columns, but for the names of their collations. */
export type TableDialect = "postgres" | "mysql" | "sqlite" | "duckdb";
export type TypeGroup = "Numbers" | "Texts and bytes" | "Dates and times" | "Structures" | "Networks and geometry" | "Others";

/** A column type in the dialect's words, or how it follows from the source's column. TEXT is the dialect's type for any text. */
export type ColumnRule = string | ((column: ColumnSchema) => string);

/** The source's type itself, modifier and all. */
export const same: ColumnRule = ({ type }) => type;

/** PostgreSQL's text of the value, on every dialect but PostgreSQL. */
export const asText: TypeRow["columns"] = { postgres: same, mysql: "TEXT", sqlite: "TEXT", duckdb: "TEXT" };
/** For names of the source's own objects, which the replica need not have. */
export const asTextEverywhere: TypeRow["columns"] = { ...asText, postgres: "TEXT" };
