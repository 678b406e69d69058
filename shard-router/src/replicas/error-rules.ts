import type { ErrorCode } from "@cascade/shared/error-codes";
import type { Verdict } from "@cascade/shared/errors";
import { fillAnew } from "./table-mismatch.ts";

/** What an engine's error means for us; which of its codes mean it, stands in a table beside each engine. */
export interface Rule {
  readonly code: ErrorCode;
  readonly verdict: Verdict;
  readonly advice: string;
}

export const away: Rule = {
  code: "REPLICA_UNAVAILABLE",
  verdict: "retry",
  advice: "nothing to do here: the router tries again until the replica answers; look at its server and the network",
};
export const serverFull: Rule = {
  code: "REPLICA_FULL",
  verdict: "retry",
  advice: "give the replica's server room (disk, memory, connections): the router tries again",
};
export const conflict: Rule = {
  code: "REPLICA_CONFLICT",
  verdict: "retry",
  advice: "nothing to do: the transaction is tried again",
};
export const changedTable = (progressTable: string): Rule => ({
  code: "REPLICA_TABLE_MISMATCH",
  verdict: "stop-table",
  advice: `table or column was changed on the replica: restore it, or ${fillAnew(progressTable)}`,
});
export const constraint: Rule = {
  code: "CONSTRAINT_VIOLATED",
  verdict: "stop-table",
  advice:
    "the replica has a constraint that the source's rows do not meet: drop it, or mend the rows of the replica that it names",
};
export const functionFailed: Rule = {
  code: "REPLICA_FUNCTION_FAILED",
  verdict: "stop-table",
  advice:
    "a function or trigger of the replica's own raised an error (what it says may hold values: see the replica's log): mend or drop it; the table goes on by itself",
};
export const readOnly: Rule = {
  code: "REPLICA_READ_ONLY",
  verdict: "retry",
  advice: "REPLICA_URL leads to a server that takes no writes (a standby?): let it lead to the primary; the router tries again",
};
export const damagedServer: Rule = {
  code: "REPLICA_DAMAGED",
  verdict: "fatal",
  advice: "the replica's server reports damaged data: look at its log before anything else writes to it",
};
export const diskFull: Rule = {
  code: "REPLICA_FULL",
  verdict: "retry",
  advice: "make room on the disk of the replica's file: the router tries again",
};
export const cannotOpenFile: Rule = {
  code: "REPLICA_CANNOT_OPEN",
  verdict: "refuse",
  advice: "check that the folder in REPLICA_URL exists and that this user may write to it and to the file",
};
