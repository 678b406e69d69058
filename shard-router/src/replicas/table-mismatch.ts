import { CascadeError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";

/** Why an existing table of the replica cannot take the source's rows, and the SQL that mends it. */
export interface Misfit {
  readonly problem: string;
  readonly cure: string;
}

export function tableMismatch(schema: TableSchema, sqlName: string, misfits: readonly Misfit[]): CascadeError {
  return new CascadeError({
    code: "REPLICA_TABLE_MISMATCH",
    verdict: "stop-table",
    message: `the replica's table ${sqlName} does not fit ${formatTableName(schema)}: ${misfits.map(({ problem }) => problem).join("; ")}`,
    advice: `run on the replica, and the table goes on by itself: ${misfits.map(({ cure }) => cure).join("; ")}`,
  });
}

/** Fewer rows were there than the statement had changes for: what the missing rows' other columns hold, nobody knows. */
export function missingRow(topic: string, expected: number, affected: number): CascadeError {
  return new CascadeError({
    code: "MISSING_ROW",
    verdict: "stop-table",
    message: `the replica lacks ${expected - affected} of ${expected} rows of ${topic} that changed in part`,
    advice:
      "something else changed the replica's table: let the table be copied anew (a snapshot), and take the right to write from everyone else",
  });
}
