import { totalmem } from "node:os";
import type { DuckDBConnection } from "@duckdb/node-api";

/**
 * What DuckDB may hold in memory is bounded, as everything in a router is; it reads the rest from disk. But blocks of every table and
 * of its key's index stay (0.36 MB measured), and a checkpoint that finds no memory gives the open database up. So the limit follows
 * the number of tables, and a transaction that still meets it doubles it.
 */
const MEMORY_MB = { atLeast: 64, perTable: 0.5, shareOfMachine: 0.8 } as const;

/** The open database's, as this connection has set it. */
export class MemoryLimit {
  readonly #connection: DuckDBConnection;
  #megabytes = 0;

  constructor(connection: DuckDBConnection) {
    this.#connection = connection;
  }

  makeRoomFor(tables: number): Promise<void> {
    return this.#raise(MEMORY_MB.atLeast + tables * MEMORY_MB.perTable);
  }

  async #raise(megabytes: number): Promise<void> {
    if (megabytes <= this.#megabytes) return;
    this.#megabytes = Math.ceil(megabytes);
    await this.#connection.run(`SET memory_limit = '${this.#megabytes}MB'`);
  }

  /** False when the machine has no more to give. */
  async double(): Promise<boolean> {
    const most = (totalmem() / 1e6) * MEMORY_MB.shareOfMachine;
    if (this.#megabytes >= most) return false;
    await this.#raise(Math.min(this.#megabytes * 2, most));
    return true;
  }
}
