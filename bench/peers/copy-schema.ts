import { join } from "node:path";
import { run } from "@cascade/local/command.ts";
import { findPostgres } from "@cascade/local/postgres-install.ts";

/** The replica gets main-db's tables, and the rows that they have: neither peer makes them as they are. */
export async function copySchema(mainUrl: string, replicaUrl: string, folder: string): Promise<void> {
  const postgres = findPostgres();
  if (postgres === null) throw new Error("PostgreSQL is not installed");
  const file = join(folder, "schema.sql");
  const dump = ["--schema=public", "--clean", "--if-exists", "--no-owner", `--file=${file}`];
  await run([join(postgres.bin, "pg_dump"), ...dump, mainUrl]);
  await run([join(postgres.bin, "psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", `--file=${file}`, replicaUrl]);
}
