import { statSync } from "node:fs";
import type { DuckDBConnection, DuckDBInstance, DuckDBPreparedStatement } from "@duckdb/node-api";
import type { SqlValue } from "../dialect.ts";
import { duckdbMissing, isConflict, isOutOfMemory, isRefusal, openingError } from "./duckdb-errors.ts";
import { MemoryLimit } from "./duckdb-memory.ts";

export type DuckdbRow = Readonly<Record<string, unknown>>;

/** One connection to the file, one transaction at a time. Statements run on threads of DuckDB's own. */
export interface DuckdbSession extends AsyncDisposable {
  /** To be called in a transaction, like everything else but `transaction`. Resolves with the number of rows it changed. */
  run(text: string, values?: readonly SqlValue[]): Promise<number>;
  /** DDL, once: what is prepared for the tables as they were is forgotten. */
  ddl(text: string): Promise<void>;
  rows(text: string, values?: readonly SqlValue[]): Promise<readonly DuckdbRow[]>;
  /** Whether DuckDB would run the statement; nothing is run. */
  takes(text: string): Promise<boolean>;
  /** `work` in a transaction: committed when it resolves, rolled back when it rejects. Waits for the transaction before it. */
  transaction<T>(work: () => Promise<T>): Promise<T>;
  /** Lets DuckDB hold what so many tables take, whatever is in them. */
  makeRoomFor(tables: number): Promise<void>;
  /** Which file the path led to when it was opened. */
  readonly fileId: string;
}

/** Set in the open database and not at its opening: whoever opens the file again in this process must ask for the same settings. */
const SETTINGS: Readonly<Record<string, string>> = {
  threads: "1",
  allocator_flush_threshold: "'1MB'",
  preserve_insertion_order: "false", // rows have no order, and keeping one takes memory
  TimeZone: "'UTC'",
  autoinstall_known_extensions: "false",
  errors_as_json: "true",
};

/** Texts kept prepared; past that all are dropped, for they come from tables and column sets that are few. */
const MAX_PREPARED = 256;
/** Somebody else of this process wrote to the same rows: then a transaction finds what they left when it is run again. */
const CONFLICT_TRIES = 5;
const CONFLICT_PAUSE_MS = 10;

/** Opens the file, made when missing. Rejects with verdict refuse when that cannot be, or without DuckDB's client. */
export async function openDuckdbSession(path: string): Promise<DuckdbSession> {
  const { DuckDBInstance } = await import("@duckdb/node-api").catch((error: unknown) => {
    throw duckdbMissing(error);
  });
  let instance: DuckDBInstance | undefined;
  try {
    instance = await DuckDBInstance.fromCache(path);
    const connection = await instance.connect();
    for (const [name, value] of Object.entries(SETTINGS)) await connection.run(`SET ${name} = ${value}`);
    return sessionOver(instance, connection, fileId(path));
  } catch (error) {
    instance?.closeSync();
    collectResults();
    throw openingError(error, path);
  }
}

/** Which file the path leads to now: one that was moved or deleted would go on being written to, and nobody would see it. */
export function fileId(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? "none" : `${found.dev}/${found.ino}`;
}

function sessionOver(instance: DuckDBInstance, connection: DuckDBConnection, openedFile: string): DuckdbSession {
  const prepared = new PreparedStatements(connection);
  const run: DuckdbSession["run"] = async (text, values = []) => {
    const statement = await prepared.get(text);
    bind(statement, values);
    try {
      return (await statement.run()).rowsChanged;
    } finally {
      statement.clearBindings(); // a whole batch would be kept
    }
  };
  const inTransaction = async <T>(work: () => Promise<T>): Promise<T> => {
    await connection.run("BEGIN");
    try {
      const result = await work();
      await connection.run("COMMIT");
      return result;
    } catch (error) {
      // A commit that fails has rolled back already; then there is nothing to end, and the first error is what matters.
      await connection.run("ROLLBACK").catch(() => {});
      throw error;
    }
  };
  const memory = new MemoryLimit(connection);
  const retried = async <T>(attempt: () => Promise<T>): Promise<T> => {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (isOutOfMemory(error) && (await memory.double())) continue;
        if (!isConflict(error) || tries >= CONFLICT_TRIES) throw error;
        await Bun.sleep(CONFLICT_PAUSE_MS * tries);
      }
    }
  };
  let ended: Promise<unknown> = Promise.resolve();
  return {
    run,
    ddl: async (text) => {
      prepared.clear();
      await connection.run(text);
    },
    makeRoomFor: (tables) => memory.makeRoomFor(tables),
    rows: async (text, values = []) => {
      const statement = await connection.prepare(text);
      try {
        bind(statement, values);
        return (await statement.runAndReadAll()).getRowObjectsJson() as readonly DuckdbRow[];
      } finally {
        statement.destroySync();
      }
    },
    takes: async (text) => {
      try {
        (await connection.prepare(text)).destroySync();
        return true;
      } catch (error) {
        if (!isRefusal(error)) throw error;
        return false;
      }
    },
    transaction: (work) => {
      const mine = ended.then(() => retried(() => inTransaction(work)));
      ended = Promise.allSettled([mine]);
      return mine;
    },
    fileId: openedFile,
    [Symbol.asyncDispose]: async () => {
      await ended;
      prepared.clear();
      connection.closeSync();
      instance.closeSync();
      collectResults();
    },
  };
}

/** Results hold the database open, and with it the file's lock, until they are collected: this very process could not open it again. */
function collectResults(): void {
  Bun.gc(true);
}

function bind(statement: DuckDBPreparedStatement, values: readonly SqlValue[]): void {
  for (const [index, value] of values.entries()) {
    const at = index + 1;
    if (value === null) statement.bindNull(at);
    else if (typeof value === "string") statement.bindVarchar(at, value);
    else if (typeof value === "bigint") statement.bindBigInt(at, value);
    else if (typeof value === "number") statement.bindDouble(at, value);
    else if (typeof value === "boolean") statement.bindBoolean(at, value);
    else statement.bindBlob(at, value);
  }
}

class PreparedStatements {
  readonly #connection: DuckDBConnection;
  readonly #byText = new Map<string, DuckDBPreparedStatement>();

  constructor(connection: DuckDBConnection) {
    this.#connection = connection;
  }

  async get(text: string): Promise<DuckDBPreparedStatement> {
    let statement = this.#byText.get(text);
    if (statement === undefined) {
      if (this.#byText.size >= MAX_PREPARED) this.clear();
      statement = await this.#connection.prepare(text);
      this.#byText.set(text, statement);
    }
    return statement;
  }

  clear(): void {
    for (const statement of this.#byText.values()) statement.destroySync();
    this.#byText.clear();
  }
}
