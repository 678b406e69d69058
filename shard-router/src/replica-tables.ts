import type { TableSchema } from "@cascade/shared/table-schema";
import type { TableName } from "@cascade/shared/topic";
import type { ReplicaTable } from "./dialect.ts";
import type { Replica } from "./replica.ts";

/** People may change a table in a way that no statement of ours fails at, and that rounds values from then on: it is looked at again. */
const RECHECK_MS = 5_000;

/** The replica's tables that were made or checked already, by the schema their rows are written under. */
export class ReplicaTables {
  readonly #replica: Pick<Replica, "prepare">;
  readonly #prepared = new Map<string, { readonly table: ReplicaTable; readonly checkedAtMs: number }>();

  constructor(replica: Pick<Replica, "prepare">) {
    this.#replica = replica;
  }

  /** `mayCreate`: nothing was ever applied to it. */
  async get(schema: TableSchema, mayCreate: boolean, nowMs = performance.now()): Promise<ReplicaTable> {
    const known = this.#prepared.get(schema.id);
    if (known !== undefined && nowMs - known.checkedAtMs < RECHECK_MS) return known.table;
    const table = await this.#replica.prepare(schema, mayCreate);
    this.#prepared.set(schema.id, { table, checkedAtMs: nowMs });
    return table;
  }

  /** Something went wrong with the table: somebody may have changed it, so it is looked at again. */
  forget(name: TableName): void {
    for (const [
      id,
      {
        table: { source },
      },
    ] of this.#prepared)
      if (source.schema === name.schema && source.table === name.table) this.#prepared.delete(id);
  }
}
