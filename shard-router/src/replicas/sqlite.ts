import { Database, type Statement as PreparedStatement } from "bun:sqlite";
import { statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { formatTableName } from "@cascade/shared/topic";
import type { SqlValue } from "../dialect.ts";
import { sqliteDialect } from "../dialects/sqlite.ts";
import type { Partition } from "../event-consumer.ts";
import type { Advance, Replica, Work } from "../replica.ts";
import { applyWork } from "./apply-work.ts";
import { checkHeld, type HeldRow, heldKeyOf } from "./held-rows.ts";
import { checkStep, partStore } from "./part-store.ts";
import { changeSqliteTables } from "./sqlite-changes.ts";
import { fileReplaced, isBusy, isConstraintError, sqliteError } from "./sqlite-errors.ts";
import {
  advanceProgress,
  CREATE_PROGRESS,
  ensureReplicaId,
  heldRows,
  readProgress,
  readProgressOf,
  shardRow,
} from "./sqlite-progress.ts";
import { checkUnchanged, ensureTableNames, readRemembered } from "./sqlite-remembered.ts";
import { prepareSqliteTable } from "./sqlite-tables.ts";
import { missingRow } from "./table-mismatch.ts";

/** How long another process may keep the file's write lock before the caller hears of it, and the pause between tries. */
const LOCK_TIMEOUT_MS = 10_000;
const LOCK_PAUSE_MS = 20;

/**
 * synchronous NORMAL: a power cut may undo the last transactions, but whole ones, each rows and progress together; Kafka still has them
 * (docs/decisions/0012). The engine waits for locks only this long, because it would block the event loop meanwhile: `locked` goes on.
 */
const PRAGMAS = ["busy_timeout = 20", "journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = OFF", "cache_size = -16000"];

/**
 * A large change needs temporary files, and in a container with a read-only root there is no other folder to write to. Holds for the
 * whole process, where several files have one folder each: whichever was opened last, and the system's when that is gone.
 */
const temporaryFilesBeside = (path: string): string => `temp_store_directory = '${dirname(resolve(path)).replaceAll("'", "''")}'`;

export interface SqliteOptions {
  readonly lockTimeoutMs?: number;
  readonly connect?: (path: string) => Database;
}

const connectTo = (path: string): Database => new Database(path, { create: true, readwrite: true });

/** A replica in one SQLite file, made when missing. Rejects with verdict refuse when the file cannot be opened. */
export async function openSqliteReplica(
  path: string,
  { lockTimeoutMs = LOCK_TIMEOUT_MS, connect = connectTo }: SqliteOptions = {},
): Promise<Replica> {
  const session = await open(path, lockTimeoutMs, connect);
  const { locked } = session;
  const failing = (doing: string) => (error: unknown) => {
    throw sqliteError(error, doing);
  };
  return {
    dialect: sqliteDialect,
    id: session.replicaId,
    parts: partStore({
      ...shardRow.options,
      tables: "cascade_tables",
      rows: ({ text, values }) =>
        locked(() => session.database.query<Record<string, unknown>, SqlValue[]>(text).all(...values)).catch(
          failing("reading the replica's part"),
        ),
      transaction: (steps) =>
        session
          .transaction(() => {
            for (const step of steps)
              checkStep(step, session.database.query(step.text).run(...(step.values as SqlValue[])).changes);
          })
          .catch(failing("changing cascade_shard")),
    }),
    findings: () => triggersOf(session.database),
    check: async () => {
      if (fileId(path) !== session.fileId) throw fileReplaced(path);
    },
    claim: (wanted, instead) =>
      shardRow
        .claim(
          (text, values) => locked(() => session.database.query<Record<string, unknown>, string[]>(text).all(...values)),
          wanted,
          instead,
        )
        .catch(failing("reading cascade_shard")),
    progress: (partition) =>
      locked(() => readProgress(session.database, partition)).catch(failing(`reading progress of ${partition.topic}`)),
    progressOf: (topic) => locked(() => readProgressOf(session.database, topic)).catch(failing(`reading progress of ${topic}`)),
    held: (partition) =>
      locked(() => {
        const { text, values } = heldRows.select(partition);
        return session.database
          .query<HeldRow, SqlValue[]>(text)
          .all(...values)
          .map(heldKeyOf);
      }).catch(failing("reading cascade_held_keys")),
    remembered: (oids) => locked(() => readRemembered(session.database, oids)).catch(failing("reading cascade_tables")),
    prepare: (schema, mayCreate = true, named = schema, revision?) =>
      session
        .transaction(() => prepareSqliteTable(session.database, schema, mayCreate, named, revision))
        .catch(failing(`preparing the replica of table ${formatTableName(schema)}`)),
    change: (changes, advance) =>
      session
        .transaction(() => changeSqliteTables(session.database, changes, advance))
        .catch(failing(`changing tables for ${advance.partition.topic}`)),
    apply: (work, advance) =>
      applyWork(work, isConstraintError, (statements) =>
        session.transaction(() => carryOut(session, { ...work, statements }, advance.partition, advance)),
      ).catch(failing(`applying ${advance.partition.topic}[${advance.partition.partition}]`)),
    settle: (work, partition) =>
      applyWork(work, isConstraintError, (statements) =>
        session.transaction(() => carryOut(session, { ...work, statements }, partition)),
      ).catch(failing(`applying what was held of ${partition.topic}[${partition.partition}]`)),
    [Symbol.asyncDispose]: () => session.close(),
  };
}

interface OpenFile extends Session {
  readonly replicaId: string;
  readonly fileId: string;
}

/** Which file the path leads to now: one that was moved or deleted would go on being written to, and nobody would see it. */
function fileId(path: string): string {
  try {
    const { dev, ino } = statSync(path);
    return `${dev}/${ino}`;
  } catch {
    return "none";
  }
}

interface Session {
  readonly database: Database;
  /** `work` in a transaction that has the file's only write lock from its beginning: whoever waited for it sees the new progress. */
  transaction<T>(work: () => T): Promise<T>;
  prepared(text: string): PreparedStatement;
  /** Tries again while another process has the lock, with the event loop free. */
  locked<T>(attempt: () => T): Promise<T>;
  /** When every transaction has ended. */
  close(): Promise<void>;
}

/** Texts kept prepared; past that all are dropped, for they come from tables and column sets that are few. */
const MAX_PREPARED = 512;

async function open(path: string, lockTimeoutMs: number, connect: (path: string) => Database): Promise<OpenFile> {
  let database: Database | undefined;
  try {
    const opened = connect(path);
    database = opened;
    const session = sessionOver(opened, lockTimeoutMs);
    await session.locked(() => {
      for (const pragma of [...PRAGMAS, temporaryFilesBeside(path)]) opened.run(`PRAGMA ${pragma}`);
    });
    const replicaId = await session.transaction(() => {
      opened.run(CREATE_PROGRESS);
      opened.run(heldRows.createText);
      opened.run(shardRow.createText);
      ensureTableNames(opened);
      return ensureReplicaId(opened);
    });
    return { ...session, replicaId, fileId: fileId(path) };
  } catch (error) {
    database?.close();
    throw sqliteError(error, `opening ${path}`);
  }
}

/** Foreign keys can be switched off; triggers, which SQLite's SQL cannot, are for the operator to know of. */
function triggersOf(database: Database): readonly string[] {
  return database
    .query<{ name: string; tbl_name: string }, []>(
      "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name",
    )
    .all()
    .map(
      ({ name, tbl_name }) =>
        `trigger ${name} of the replica's table ${tbl_name} acts on replicated rows, and SQLite cannot keep it from that: drop it unless it is wanted`,
    );
}

function sessionOver(database: Database, lockTimeoutMs: number): Session {
  const locked = <T>(attempt: () => T): Promise<T> => retried(attempt, lockTimeoutMs);
  const prepared = new Map<string, PreparedStatement>();
  const finalizeAll = () => {
    for (const statement of prepared.values()) statement.finalize();
    prepared.clear();
  };
  const finish = <T>(work: () => T): (() => T) => {
    try {
      const result = work();
      database.run("COMMIT");
      return () => result;
    } catch (error) {
      if (database.inTransaction) database.run("ROLLBACK"); // some errors have rolled back already
      return () => {
        throw error;
      };
    }
  };
  const inTransaction = async <T>(work: () => T): Promise<T> => {
    // In one go with its beginning: whoever else waited for the lock in this process would begin within it.
    const done = await locked(() => {
      database.run("BEGIN IMMEDIATE");
      return finish(work);
    });
    return done();
  };
  let ended: Promise<unknown> = Promise.resolve();
  return {
    database,
    locked,
    transaction: (work) => {
      const mine = inTransaction(work);
      // Without the results: they would hold those of all transactions before them.
      ended = Promise.allSettled([ended, mine]).then(() => {});
      return mine;
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
    close: async () => {
      await ended;
      finalizeAll();
      database.close();
    },
  };
}

async function retried<T>(attempt: () => T, timeoutMs: number): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error;
      await Bun.sleep(LOCK_PAUSE_MS);
    }
  }
}

/** Never yields: between BEGIN and COMMIT nothing else runs in this process. */
function carryOut(
  session: Session,
  { statements, tables, holds }: Omit<Work, "inOrder">,
  partition: Partition,
  advance?: Advance,
): void {
  const { database } = session;
  checkUnchanged(database, tables, partition);
  if (advance !== undefined) advanceProgress(database, advance);
  for (const held of heldRows.statements(holds))
    checkHeld(database.query(held.text).run(...(held.values as SqlValue[])).changes, held);
  for (const { text, parameterSets, mustAffect } of statements) {
    const statement = session.prepared(text);
    let affected = 0;
    for (const values of parameterSets) affected += statement.run(...(values as SqlValue[])).changes;
    if (mustAffect !== undefined && affected < mustAffect) throw missingRow(partition.topic, mustAffect, affected);
  }
}
