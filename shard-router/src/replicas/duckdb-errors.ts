import { closeSync, openSync, readSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { CascadeError } from "@cascade/shared/errors";
import { cannotOpenFile, changedTable, conflict, diskFull, type Rule } from "./error-rules.ts";

const changed = changedTable("cascade_progress");
const locked: Rule = {
  code: "REPLICA_LOCKED",
  verdict: "retry",
  advice:
    "DuckDB lets one process at a time have a file: end the other one (another router, a shell, a notebook); the router tries again",
};
const noMemory: Rule = {
  code: "REPLICA_FULL",
  verdict: "stop-table",
  advice:
    "DuckDB takes more memory than this machine has: give it more, or lower ROUTER_BATCH_BYTES; the table is tried again with fewer rows",
};
const unreadable: Rule = {
  code: "REPLICA_UNAVAILABLE",
  verdict: "retry",
  advice: "the replica's file cannot be read or written: check its disk and mount; the router opens it again",
};
const noDatabase: Rule = {
  code: "REPLICA_CANNOT_OPEN",
  verdict: "refuse",
  advice: "the file that REPLICA_URL names is no DuckDB database, or one of another version: name another, or move it away",
};
const constraint: Rule = {
  code: "CONSTRAINT_VIOLATED",
  verdict: "stop-table",
  advice:
    "the replica has a constraint that the source's rows do not meet (DuckDB cannot switch its foreign keys off): drop it, or mend the rows of the replica that it names",
};
const badValue: Rule = {
  code: "UNSUPPORTED_VALUE",
  verdict: "stop-table",
  advice:
    "the replica's column cannot hold a value of the source: give it the type VARCHAR, or exclude the table (ROUTER_TABLES)",
};
const unexpected: Rule = {
  code: "REPLICA_ERROR",
  verdict: "stop-table",
  advice: "look the error's type up in DuckDB's documentation; the table is tried again",
};

const noRight: Rule = {
  code: "REPLICA_RIGHT_MISSING",
  verdict: "stop-table",
  advice: "DuckDB's settings forbid it: see the message; the table goes on by itself when they allow it",
};

/** By DuckDB's exception type (ExceptionType in its source): every one is here. */
export const DUCKDB_RULES: Readonly<Record<string, Rule>> = {
  Constraint: constraint,
  TransactionContext: conflict,
  Transaction: conflict,
  Conversion: badValue,
  "Invalid Input": badValue,
  "Out of Range": badValue,
  "Mismatch Type": badValue,
  Decimal: badValue,
  Catalog: changed,
  Binder: changed,
  Dependency: changed,
  "Out of Memory": noMemory,
  IO: unreadable,
  FATAL: unreadable, // the database in memory is given up: opening it again reads the file
  Connection: unreadable,
  Interrupt: unreadable,
  INTERRUPT: unreadable,
  Permission: noRight,
  "Object Size": badValue,
  "Invalid type": badValue,
  "Unknown Type": badValue,
  "Divide by Zero": badValue,
  ...Object.fromEntries(
    [
      [
        "Invalid",
        "Serialization",
        "Not implemented",
        "Expression",
        "Parser",
        "Planner",
        "Scheduler",
        "Executor",
        "Index",
        "Stat",
      ],
      ["Syntax", "Settings", "Optimizer", "NullPointer", "INTERNAL", "Parameter Not Resolved", "Parameter Not Allowed", "HTTP"],
      ["Missing Extension", "Extension Autoloading", "Sequence", "Invalid Configuration"],
    ]
      .flat()
      .map((type) => [type, unexpected]),
  ),
};

/** Whose messages show values. */
const TELLING: ReadonlySet<Rule> = new Set([badValue, unexpected]);
const NO_SPACE = "28";

interface DuckdbException {
  readonly type: string;
  readonly message: string;
  readonly errno: string | null;
}

/** The driver throws plain errors: a message "Type Error: ...", or since sessions ask for it (errors_as_json) a JSON object. */
function exceptionOf(error: unknown): DuckdbException | null {
  if (!(error instanceof Error) || error.constructor !== Error) return null;
  const at = error.message.indexOf('{"exception_type"');
  if (at >= 0) {
    const said = JSON.parse(error.message.slice(at)) as Readonly<Record<string, string>>;
    return { type: said["exception_type"] ?? "", message: said["exception_message"] ?? "", errno: said["errno"] ?? null };
  }
  const match = /^([A-Za-z ]+?) Error: (.*)/s.exec(error.message);
  return match === null ? null : { type: match[1] ?? "", message: match[2] ?? "", errno: null };
}

export const isConstraintError = (error: unknown): boolean => exceptionOf(error)?.type === "Constraint";
/** A value cannot become one of another type. */
export const isUnfitValue = (error: unknown): boolean => DUCKDB_RULES[exceptionOf(error)?.type ?? ""] === badValue;
export const isConflict = (error: unknown): boolean => {
  const type = exceptionOf(error)?.type;
  return type === "TransactionContext" || type === "Transaction";
};
export const isOutOfMemory = (error: unknown): boolean => exceptionOf(error)?.type === "Out of Memory";
/** In a statement that was prepared only to hear whether DuckDB would take it. */
export const isRefusal = (error: unknown): boolean => exceptionOf(error)?.type === "Binder";

/** What DuckDB says, as an error of ours, without a row's values. */
export function duckdbError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  const exception = exceptionOf(error);
  if (exception === null) throw error; // a bug of ours
  const { type, errno } = exception;
  const rule = errno === NO_SPACE ? diskFull : (DUCKDB_RULES[type] ?? unexpected);
  return new CascadeError({ ...rule, message: `${doing}: ${explain(exception, rule)} (${type} error)` });
}

/**
 * A violated constraint's key comes as "column: value, column: value", with whatever the value holds: only the first column's name is
 * passed on. Of other messages the first line: what follows quotes the statement.
 */
function explain({ message }: DuckdbException, rule: Rule): string {
  if (TELLING.has(rule)) return "DuckDB refused a value or a statement";
  // Of an index that is made, the key comes alone.
  const kept = message.replace(/\bduplicate key ".*"/s, "duplicate key").replace(/"([^":]*):.*"/s, '"$1: …"');
  return (kept.split("\n")[0] ?? "").trim();
}

/** Of an opening that failed. DuckDB has one type for all that can be wrong with a file, so the file itself is looked at. */
export function openingError(error: unknown, path: string): CascadeError {
  const exception = exceptionOf(error);
  if (exception === null || exception.type !== "IO") return duckdbError(error, `opening ${path}`);
  const rule = !isFolder(dirname(path)) || isFolder(path) ? cannotOpenFile : openingRule(path, exception.message);
  return new CascadeError({ ...rule, message: `opening ${path}: ${exception.message.split("\n")[0]}` });
}

function openingRule(path: string, message: string): Rule {
  try {
    if (!isDuckdbFile(path)) return noDatabase;
  } catch {
    return cannotOpenFile; // it cannot be read, or is not there and cannot be made
  }
  // The lock has neither type nor number of its own; taken for something else, the router would only give up sooner.
  return /\block\b/.test(message) ? locked : noDatabase;
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

const MAGIC = "DUCK";
const MAGIC_OFFSET = 8;

function isDuckdbFile(path: string): boolean {
  const file = openSync(path, "r");
  try {
    const found = Buffer.alloc(MAGIC.length);
    readSync(file, found, 0, MAGIC.length, MAGIC_OFFSET);
    return found.toString("latin1") === MAGIC;
  } finally {
    closeSync(file);
  }
}

export const duckdbMissing = (cause: unknown): CascadeError =>
  new CascadeError({
    code: "REPLICA_CLIENT_MISSING",
    verdict: "refuse",
    message: "REPLICA_URL names a DuckDB file, and this router was installed without DuckDB's client @duckdb/node-api",
    advice:
      "run `bun install` without --omit=optional in the repository (or `bun add --cwd shard-router @duckdb/node-api`), or build the image with --build-arg WITH_DUCKDB=true",
    cause,
  });

export const fileReplaced = (path: string): CascadeError =>
  new CascadeError({
    code: "REPLICA_UNAVAILABLE",
    verdict: "retry",
    message: `the file ${path} was moved, deleted or replaced while it was open`,
    advice: "nothing to do when that was meant: the router goes on with the file that is there now, from its progress",
  });
