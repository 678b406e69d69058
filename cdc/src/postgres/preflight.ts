import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError } from "@cascade/shared/errors";
import type pg from "pg";
import type { Catalog } from "./catalog.ts";
import { missingIdentity } from "./identity.ts";
import { postgresError } from "./session.ts";

interface ServerRow {
  readonly wal_level: string;
  readonly may_replicate: boolean;
  readonly standby: boolean;
  readonly encoding: string;
  readonly output_plugins: string | null;
}

const SERVER = `
  SELECT current_setting('wal_level') AS wal_level, pg_encoding_to_char(d.encoding) AS encoding,
         pg_is_in_recovery() AS standby,
         (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) OR EXISTS (
           SELECT 1 FROM pg_roles WHERE rolname IN ('rds_replication', 'rds_superuser') AND pg_has_role(current_user, oid, 'member')
         ) AS may_replicate,
         (SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries') AS output_plugins
    FROM pg_database d WHERE d.datname = current_database()`;

/** Everything that would stop or damage replication, each with its cure; empty when cdc may start. */
export async function preflight(client: pg.Client, catalog: Catalog, mode: "stream" | "poll"): Promise<readonly CascadeError[]> {
  try {
    const server = (await client.query<ServerRow>(SERVER)).rows[0];
    if (server?.standby) throw standby();
    const relations = await catalog.captured();
    return [
      ...(server === undefined ? [] : serverFindings(server, mode)),
      ...relations.map((relation) => missingIdentity(relation)).filter((finding) => finding !== null),
    ];
  } catch (error) {
    throw postgresError(error, "cannot check main-db");
  }
}

/** It heals: after a failover behind one address the new primary is a standby for a moment. */
function standby(): CascadeError {
  return new CascadeError({
    code: "STANDBY",
    verdict: "retry",
    message: "the server of CDC_DATABASE_URL is a standby",
    advice: "let CDC_DATABASE_URL lead to the primary; cdc looks again",
  });
}

function serverFindings(server: ServerRow, mode: "stream" | "poll"): CascadeError[] {
  const findings: CascadeError[] = [];
  const add = (code: ErrorCode, message: string, advice: string) =>
    findings.push(new CascadeError({ code, verdict: "refuse", message, advice }));
  if (server.wal_level !== "logical") {
    add("WAL_LEVEL", `wal_level is ${server.wal_level}`, "set wal_level = logical on main-db and restart it");
  }
  if (!server.may_replicate) {
    add(
      "MISSING_RIGHT",
      "the role of CDC_DATABASE_URL may not replicate",
      "ALTER ROLE <user> REPLICATION (RDS: GRANT rds_replication TO <user>)",
    );
  }
  const plugins = server.output_plugins?.split(",").map((name) => name.trim());
  if (plugins !== undefined && !plugins.includes("wal2json")) {
    add(
      "PLUGIN_REFUSED",
      `output_plugin_libraries does not allow wal2json (it is: ${server.output_plugins})`,
      "ALTER SYSTEM SET output_plugin_libraries = pgoutput, test_decoding, wal2json; SELECT pg_reload_conf();",
    );
  }
  if (server.encoding === "SQL_ASCII") {
    add(
      "ENCODING",
      "the database's encoding is SQL_ASCII: its bytes are of no known character set",
      "move the data to a UTF8 database",
    );
  }
  if (server.encoding !== "SQL_ASCII" && server.encoding !== "UTF8" && mode === "stream") {
    add(
      "ENCODING",
      `the database's encoding is ${server.encoding}, and a replication connection sends its bytes as they are`,
      "set CDC_MODE=poll, where the server converts them, or move the data to a UTF8 database",
    );
  }
  return findings;
}
