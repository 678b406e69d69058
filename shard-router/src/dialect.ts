import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { Mutation } from "./mutation.ts";

export type DialectName = "postgres" | "mysql" | "mariadb" | "sqlite" | "duckdb";

export type SqlValue = string | number | bigint | boolean | null | Uint8Array;

/** One SQL text, run once per parameter set, in order. */
export interface Statement {
  readonly text: string;
  readonly parameterSets: readonly (readonly SqlValue[])[];
  /**
   * Rows the statement must affect in all, when fewer mean that the replica lacks a row whose unsent columns nobody knows:
   * the replica rejects with CascadeError MISSING_ROW (stop-table).
   */
  readonly mustAffect?: number;
  /** MariaDB's bulk protocol does not take it: its parameter sets are sent one by one, without waiting for each. */
  readonly onlyPipelined?: true;
}

/** A column as the replica has it. */
export interface ReplicaColumn {
  readonly name: string;
  /** Type in the dialect's own words. */
  readonly type: string;
}

/** A source table and its place on the replica; made by `Replica.prepare`. */
export interface ReplicaTable {
  /** The source's schema that the events to render were written under. */
  readonly source: TableSchema;
  /** Qualified and quoted, ready for SQL text. */
  readonly sqlName: string;
  readonly columns: readonly ReplicaColumn[];
  /** Foreign keys of the replica's own point at it: TRUNCATE is then refused by engines such as PostgreSQL. */
  readonly referenced: boolean;
  /** Has a unique index besides the key's: an upsert of MySQL's would act on the rows that share its values too. */
  readonly hasOtherUnique?: boolean;
  /** A column of its key is AUTO_INCREMENT: set to NULL it becomes a number instead of an error. */
  readonly numbersKey?: boolean;
}

/** Pure: SQL text and parameters from mutations; no socket, clock or config. */
export interface Dialect {
  readonly name: DialectName;
  /** The DDL that creates a missing table, and what `Replica.prepare` compares an existing one with. `named`: the source name that it is called for. */
  createTable(schema: TableSchema, named?: TableName): readonly string[];
  /** The replica's type for each source column, in column order. Throws UnsupportedValueError for a type it cannot hold. */
  columnsOf(schema: TableSchema): readonly ReplicaColumn[];
  /**
   * Mutations of one table -> set-based statements with the same effect as the mutations one by one, in order.
   * Throws UnsupportedValueError (naming table, column and key columns' names, never a value) rather than round, clamp or truncate.
   */
  render(table: ReplicaTable, mutations: readonly Mutation[]): readonly Statement[];
}
