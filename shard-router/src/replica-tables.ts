import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "./dialect.ts";
import type { Replica } from "./replica.ts";

/** The replica's tables that were made or checked already, by the schema their rows are written under. */
export class ReplicaTables {
  readonly #replica: Pick<Replica, "prepare">;
  readonly #prepared = new Map<string, ReplicaTable>();

  constructor(replica: Pick<Replica, "prepare">) {
    this.#replica = replica;
  }

  async get(schema: TableSchema): Promise<ReplicaTable> {
    const known = this.#prepared.get(schema.id);
    if (known !== undefined) return known;
    const table = await this.#replica.prepare(schema);
    this.#prepared.set(schema.id, table);
    return table;
  }

  /** Something went wrong with the table: somebody may have changed it, so it is looked at again. */
  forget({ schema, table }: TableName): void {
    for (const [id, { source }] of this.#prepared)
      if (source.schema === schema && source.table === table) this.#prepared.delete(id);
  }
}
