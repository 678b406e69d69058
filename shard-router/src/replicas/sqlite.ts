import { Database, type Statement as PreparedStatement } from "bun:sqlite";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue, Statement } from "../dialect.ts";
import { sqliteDialect } from "../dialects/sqlite.ts";
import type { Advance, Replica, Work } from "../replica.ts";
import { isBusy, isConstraintError, sqliteError } from "./sqlite-errors.ts";
import { advanceProgress, CREATE_PROGRESS, readProgress } from "./sqlite-progress.ts";
import { CREATE_TABLES, prepareSqliteTable } from "./sqlite-tables.ts";
import { missingRow } from "./table-mismatch.ts";

/** How long another process may keep the file's write lock before the caller hears of it, and the pause between tries. */
const LOCK_TIMEOUT_MS = 10_000;
const LOCK_PAUSE_MS = 20;

/**
 * synchronous NORMAL: a power cut may undo the last transactions, but whole ones, each rows and progress together; Kafka still has them
 * (docs/decisions/0012). The engine waits for locks only this long, because it would block the event loop meanwhile: `locked` goes on.
 */
const PRAGMAS = ["busy_timeout = 20", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = OFF", "cache_size = -16000"];

/** A replica in one SQLite file, made when missing. Rejects with verdict refuse when the file cannot be opened. */
export async function openSqliteReplica(path: string): Promise<Replica> {
  const session = await open(path);
  const failing = (doing: string) => (error: unknown) => {
    throw sqliteError(error, doing);
  };
  return {
    dialect: sqliteDialect,
    findings: () => [],
    progress: (partition) =>
      locked(() => readProgress(session.database, partition)).catch(failing(`reading progress of ${partition.topic}`)),
    prepare: (schema) =>
      session
        .transaction(() => prepareSqliteTable(session.database, schema))
        .catch(failing(`preparing the replica of table ${formatTableName(schema)}`)),
    apply: (work, advance) =>
      apply(session, work, advance).catch(failing(`applying ${advance.partition.topic}[${advance.partition.partition}]`)),
    [Symbol.asyncDispose]: async () => session.close(),
  };
}

interface Session {
  readonly database: Database;
  /** `work` in a transaction that has the file's only write lock from its beginning: whoever waited for it sees the new progress. */
  transaction<T>(work: () => T): Promise<T>;
  prepared(text: string): PreparedStatement;
  close(): void;
}

/** Texts kept prepared; past that all are dropped, for they come from tables and column sets that are few. */
const MAX_PREPARED = 512;

async function open(path: string): Promise<Session> {
  try {
    const database = new Database(path, { create: true, readwrite: true });
    await locked(() => {
      for (const pragma of PRAGMAS) database.run(`PRAGMA ${pragma}`);
    });
    const session = sessionOver(database);
    await session.transaction(() => {
      database.run(CREATE_PROGRESS);
      database.run(CREATE_TABLES);
    });
    return session;
  } catch (error) {
    throw sqliteError(error, `opening ${path}`);
  }
}

function sessionOver(database: Database): Session {
  const prepared = new Map<string, PreparedStatement>();
  const finalizeAll = () => {
    for (const statement of prepared.values()) statement.finalize();
    prepared.clear();
  };
  return {
    database,
    transaction: async (work) => {
      await locked(() => database.run("BEGIN IMMEDIATE"));
      try {
        const result = work();
        database.run("COMMIT");
        return result;
      } catch (error) {
        if (database.inTransaction) database.run("ROLLBACK"); // some errors have rolled back already
        throw error;
      }
    },
    prepared: (text) => {
      let statement = prepared.get(text);
      if (statement === undefined) {
        if (prepared.size >= MAX_PREPARED) finalizeAll();
        statement = database.prepare(text);
        prepared.set(text, statement);
      }
      return statement;
    },
    close: () => {
      finalizeAll();
      database.close();
    },
  };
}

/** Tries again while another process has the lock, with the event loop free. */
async function locked<T>(attempt: () => T): Promise<T> {
  const deadline = performance.now() + LOCK_TIMEOUT_MS;
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error;
      await Bun.sleep(LOCK_PAUSE_MS);
    }
  }
}

async function apply(session: Session, work: Work, advance: Advance): Promise<void> {
  try {
    await session.transaction(() => carryOut(session, work.statements, advance));
  } catch (error) {
    if (!isConstraintError(error)) throw error;
    await session.transaction(() => carryOut(session, work.inOrder(), advance));
  }
}

/** Never yields: between BEGIN and COMMIT nothing else runs in this process. */
function carryOut(session: Session, statements: readonly Statement[], advance: Advance): void {
  advanceProgress(session.database, advance);
  for (const { text, parameterSets, mustAffect } of statements) {
    const statement = session.prepared(text);
    let affected = 0;
    for (const values of parameterSets) affected += statement.run(...(values as Exclude<SqlValue, never>[])).changes;
    if (mustAffect !== undefined && affected < mustAffect) throw missingRow(advance.partition.topic, mustAffect, affected);
  }
}
