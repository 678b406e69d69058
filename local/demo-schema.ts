import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { repository } from "./paths.ts";

/** Makes the demo's tables, with the same files that the container of main-db runs. */
export async function createDemoSchema(client: Client): Promise<void> {
  const folder = join(repository, "main-db/init");
  const files = readdirSync(folder).filter((name) => name.endsWith(".sql"));
  for (const file of files.sort()) await client.query(readFileSync(join(folder, file), "utf8"));
}
