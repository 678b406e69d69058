import type { Position } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { SchemaHistory } from "./schema-history.ts";

/** What a table was like from `at` on. */
export interface SchemaVersion {
  readonly schema: TableSchema;
  /** null: published by a cdc that did not say. */
  readonly at: Position | null;
  /** Main-db's rows were written anew for it, and are copied again. */
  readonly rewritten: boolean;
}

/** Every schema that rows may name. */
export interface SchemaBook extends AsyncDisposable {
  /** Of every table, as far as the topic has been read. */
  readonly history: SchemaHistory;
  /** The schema with this id if it is here already: for every row, so a lookup and no more. */
  known(id: string): TableSchema | undefined;
  /**
   * The schema with this id: at once, or as soon as everything published before this call has been read. Rejects with CascadeError
   * UNKNOWN_SCHEMA (stop-table) when it was not published, KAFKA_... (retry) when that cannot be told.
   */
  get(id: string): Promise<TableSchema>;
  /** Resolves when everything published before this call has been read: `history` then says what the tables are like now. */
  settle(): Promise<void>;
}

/** What a message on the topic says. */
export type SchemaNews =
  | { readonly kind: "schema"; readonly version: SchemaVersion }
  | { readonly kind: "dropped"; readonly name: TableName; readonly oid: number; readonly at: Position };
