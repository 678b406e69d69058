import { closeSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PLUGIN_OPTIONS } from "@cascade/cdc/src/postgres/wal2json.ts";
import { findPostgres } from "@cascade/local/postgres-install.ts";
import { Client } from "pg";
import type { Ceiling } from "./ceiling.ts";

/** The slot that `recvlogical` reads: made before the rows are written. */
export async function makeCeilingSlot(mainUrl: string, slot: string): Promise<void> {
  await asked(mainUrl, "SELECT pg_create_logical_replication_slot($1, 'wal2json')", [slot]);
}

/** PostgreSQL's own client writes the slot's backlog to a file, under the options that cdc asks for: what the walsender can do. */
export async function recvlogical(mainUrl: string, slot: string, rows: number, folder: string): Promise<Ceiling> {
  const postgres = findPostgres();
  if (postgres === null) throw new Error("PostgreSQL is not installed");
  const [{ end } = {}] = await asked(mainUrl, "SELECT pg_current_wal_flush_lsn()::text AS end", []);
  const file = join(folder, `${slot}.json`);
  closeSync(openSync(file, "w"));
  const options = Object.entries(PLUGIN_OPTIONS).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const startedAt = performance.now();
  const client = Bun.spawn(
    [
      join(postgres.bin, "pg_recvlogical"),
      "-d",
      mainUrl,
      "-S",
      slot,
      "--start",
      "--no-loop",
      "-E",
      String(end),
      "-f",
      file,
      ...options,
    ],
    { env: { ...process.env, PGOPTIONS: "-c bytea_output=hex -c timezone=UTC" }, stdout: "ignore", stderr: "pipe" },
  );
  const status = await client.exited;
  const seconds = (performance.now() - startedAt) / 1000;
  if (status !== 0) throw new Error(`pg_recvlogical ended with ${status}: ${await new Response(client.stderr).text()}`);
  const usage = client.resourceUsage();
  const found = await changesIn(file);
  if (found !== rows) throw new Error(`pg_recvlogical has written ${found} of ${rows} rows`);
  await asked(mainUrl, "SELECT pg_drop_replication_slot($1)", [slot]);
  rmSync(file);
  const cpuSeconds = usage === undefined ? 0 : Number(usage.cpuTime.total) / 1e6;
  return { rows, seconds, cpuSeconds, peakRssBytes: usage?.maxRSS ?? 0 };
}

async function changesIn(file: string): Promise<number> {
  const counted = Bun.spawn(["grep", "-c", '^{"action":"[IUD]"', file], { stdout: "pipe" });
  return Number(await new Response(counted.stdout).text());
}

async function asked(
  url: string,
  text: string,
  values: readonly string[],
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text, [...values])).rows;
  } finally {
    await client.end();
  }
}
