import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";

export interface OpenDuckdb extends Disposable {
  readonly instance: DuckDBInstance;
}

/**
 * Only one process at a time has a DuckDB file. A router of this process shares the open file with whoever asks for it in the same words;
 * that is why it is not asked for read-only. Of a router in another process the file and its WAL are copied: what rests is whole.
 */
export async function openDuckdbFile(url: string): Promise<OpenDuckdb> {
  const path = decodeURIComponent(url.slice("duckdb:".length).replace(/^\/\/\//, "/"));
  if (!existsSync(path)) throw new Error(`There is no file ${path}.`); // DuckDB would make it
  try {
    const instance = await DuckDBInstance.fromCache(path);
    return { instance, [Symbol.dispose]: () => instance.closeSync() };
  } catch (error) {
    if (!String(error).includes("Could not set lock")) throw error;
  }
  const copy = mkdtempSync(join(tmpdir(), "cascade-duckdb-"));
  const remove = () => rmSync(copy, { recursive: true, force: true });
  try {
    const file = join(copy, basename(path)); // whose name is the database's
    copyFileSync(path, file);
    if (existsSync(`${path}.wal`)) copyFileSync(`${path}.wal`, `${file}.wal`);
    const instance = await DuckDBInstance.create(file);
    return {
      instance,
      [Symbol.dispose]: () => {
        instance.closeSync();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}
