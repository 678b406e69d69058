import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { fillAnew } from "./table-mismatch.ts";

/** Why a replica's table is not changed as main-db's was. */
export function changeRefused(schema: TableSchema, sqlName: string, problem: string, cure: string): CascadeError {
  return new CascadeError({
    code: "REPLICA_CHANGE_REFUSED",
    verdict: "stop-table",
    message: `the replica's table ${sqlName} cannot be changed as ${formatTableName(schema)} was: ${problem}`,
    advice: `${cure}; the table is tried again, and goes on by itself`,
  });
}

/** What main-db made of the values of these columns is not known, and no copy of them comes. */
export function unknownValues(schema: TableSchema, sqlName: string, columns: readonly string[]): CascadeError {
  const problem = `what became of the values of ${columns.join(", ")} is not known for certain, and no copy of the rows is announced`;
  return changeRefused(
    schema,
    sqlName,
    problem,
    `change these columns on the replica yourself, or ${fillAnew("cascade_progress")}`,
  );
}
