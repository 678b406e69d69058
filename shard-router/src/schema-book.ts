import type { TableSchema } from "@cascade/shared/table-schema";

/** The table schemas that cdc has published, by their content's id. */
export interface SchemaBook extends AsyncDisposable {
  /** The schema if it was read already: no more than a look into a map. */
  known(id: string): TableSchema | undefined;
  /**
   * The schema with this id, at the latest when everything published before this call has been read. Rejects with CascadeError
   * UNKNOWN_SCHEMA (stop-table) when it is not in the topic, with verdict retry when the topic cannot be read.
   */
  get(id: string): Promise<TableSchema>;
}
