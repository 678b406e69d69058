import type { TableSchema } from "@cascade/shared/table-schema";
import type { SchemaHistory } from "./schema-history.ts";

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
