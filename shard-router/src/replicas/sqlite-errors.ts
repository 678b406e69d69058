import { SQLiteError } from "bun:sqlite";
import { CascadeError } from "@cascade/shared/errors";
import { cannotOpenFile, changedTable, constraint, diskFull, functionFailed, type Rule } from "./error-rules.ts";

const changed = changedTable("cascade_progress");
const busy: Rule = {
  code: "REPLICA_LOCKED",
  verdict: "retry",
  advice: "another process holds the file's write lock: the router tries again; end long transactions of other writers",
};
const unreadable: Rule = {
  code: "REPLICA_UNAVAILABLE",
  verdict: "retry",
  advice: "the replica's file cannot be read or written: check its disk and mount; the router tries again",
};
const noDatabase: Rule = {
  code: "REPLICA_CANNOT_OPEN",
  verdict: "refuse",
  advice: "the file that REPLICA_URL names is no SQLite database, or an encrypted one: name another, or move it away",
};
const damaged: Rule = {
  code: "REPLICA_DAMAGED",
  verdict: "fatal",
  advice: "the file is damaged: move it away, and let the replica be filled anew",
};
const tooBig: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice: "a row is larger than SQLite allows (1 GB): exclude the table from this replica (ROUTER_TABLES)",
};

const unexpected: Rule = {
  code: "REPLICA_ERROR",
  verdict: "stop-table",
  advice: "look the code up in SQLite's documentation (result codes); the table is tried again",
};

/** By SQLite's primary result code; extended codes (`SQLITE_IOERR_FSYNC`) begin with theirs. Every one that is an error is here. */
export const SQLITE_RULES: Readonly<Record<string, Rule>> = {
  SQLITE_BUSY: busy,
  SQLITE_LOCKED: busy,
  SQLITE_PROTOCOL: busy,
  SQLITE_FULL: diskFull,
  SQLITE_NOMEM: diskFull,
  SQLITE_IOERR: unreadable,
  SQLITE_INTERRUPT: unreadable,
  SQLITE_CANTOPEN: cannotOpenFile,
  SQLITE_PERM: cannotOpenFile,
  SQLITE_AUTH: cannotOpenFile,
  SQLITE_READONLY: cannotOpenFile,
  SQLITE_NOTADB: noDatabase,
  SQLITE_CORRUPT: damaged,
  SQLITE_CONSTRAINT: constraint,
  SQLITE_CONSTRAINT_TRIGGER: functionFailed,
  SQLITE_CONSTRAINT_FUNCTION: functionFailed,
  SQLITE_MISMATCH: constraint,
  SQLITE_TOOBIG: tooBig,
  SQLITE_ERROR: changed,
  SQLITE_SCHEMA: changed,
  SQLITE_ABORT: unexpected,
  SQLITE_INTERNAL: unexpected,
  SQLITE_MISUSE: unexpected,
  SQLITE_RANGE: unexpected,
  SQLITE_NOLFS: unexpected,
  SQLITE_NOTFOUND: unexpected,
  SQLITE_EMPTY: unexpected,
  SQLITE_FORMAT: unexpected,
};

const primaryCode = (error: SQLiteError): string => /^SQLITE_[A-Z]+/.exec(error.code ?? "")?.[0] ?? "SQLITE_ERROR";

export const isConstraintError = (error: unknown): boolean =>
  error instanceof SQLiteError && primaryCode(error) === "SQLITE_CONSTRAINT";

/** A row is there twice, or a column of its key is NULL. */
export const isKeyError = (error: unknown): boolean =>
  error instanceof SQLiteError && /^SQLITE_CONSTRAINT_(?:PRIMARYKEY|UNIQUE|ROWID|NOTNULL)$/.test(error.code ?? "");

export const isBusy = (error: unknown): boolean => error instanceof SQLiteError && SQLITE_RULES[primaryCode(error)] === busy;

/**
 * What SQLite says, as an error of ours. Its messages name tables, columns and constraints, never values; but what a trigger of the
 * replica's own raises can be anything.
 */
export function sqliteError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  if (!(error instanceof SQLiteError)) throw error; // a bug of ours
  const rule = SQLITE_RULES[error.code ?? ""] ?? SQLITE_RULES[primaryCode(error)] ?? unexpected;
  const said = error.code === "SQLITE_CONSTRAINT_TRIGGER" ? "a trigger of the replica raised an error" : error.message;
  return new CascadeError({ ...rule, message: `${doing}: ${said} (${error.code ?? "no code"})` });
}

export const fileReplaced = (path: string): CascadeError =>
  new CascadeError({
    code: "REPLICA_UNAVAILABLE",
    verdict: "retry",
    message: `the file ${path} was moved, deleted or replaced while it was open`,
    advice: "nothing to do when that was meant: the router goes on with the file that is there now, from its progress",
  });
