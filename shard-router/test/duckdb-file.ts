import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { openDuckdbReplica } from "../src/replicas/duckdb.ts";

/**
 * A file for a replica, and a second way into it. DuckDB lets one process at a time have a file, but any number of connections of that
 * process: asked for in the same words, the open database is shared.
 */
export async function duckdbFile() {
  const folder = mkdtempSync(join(tmpdir(), "cascade-duckdb-"));
  const path = join(folder, "replica.duckdb");
  const instance = await DuckDBInstance.fromCache(path);
  const connection = await instance.connect();
  // Where names without a schema are PostgreSQL's, too.
  await connection.run("CREATE SCHEMA public; SET search_path = 'public'");
  return {
    url: `duckdb://${path}`,
    open: () => openDuckdbReplica(path),
    sql: async (text: string) => {
      const found = await connection.runAndReadAll(text);
      const names = found.columnNames();
      // As entries: an object of the client's would not keep a column "__proto__".
      return found.getRowsJS().map((row) => Object.fromEntries(row.map((value, at) => [names[at] ?? "", value])));
    },
    close: async () => {
      connection.closeSync();
      instance.closeSync();
      rmSync(folder, { recursive: true });
    },
  };
}
