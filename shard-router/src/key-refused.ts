import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";

/** The replica's rows do not allow the key that main-db's table has: they are not main-db's, whatever made them so. */
export class KeyRefusedError extends CascadeError {
  override readonly name = "KeyRefusedError";
  constructor(schema: TableSchema, sqlName: string) {
    super({
      code: "REPLICA_CHANGE_REFUSED",
      verdict: "stop-table",
      message: `rows of the replica's table ${sqlName} do not allow the key (${schema.key.join(", ")}) that ${formatTableName(schema)} has on main-db, so that they are not main-db's`,
      advice: "empty the replica's table; the router does so itself with ROUTER_DDL=apply, and asks for a copy of it",
    });
  }
}
