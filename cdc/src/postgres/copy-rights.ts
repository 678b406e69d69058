import { CascadeError } from "@cascade/shared/errors";
import { RefusalError } from "@cascade/shared/settings";
import { formatTableName, quoteName, quoteTableName, type TableName } from "@cascade/shared/topic";
import type pg from "pg";
import { postgresError } from "./session.ts";

const RIGHTS = `
  SELECT c.oid::text AS oid, has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS granted,
         row_security_active(c.oid) AS hidden
    FROM pg_class c WHERE c.oid = ANY($1::oid[])`;

// Since PostgreSQL 17 it has a fourth argument.
const MAY_MARK = `
  SELECT coalesce(bool_or(has_function_privilege(p.oid, 'EXECUTE')), false) AS granted
    FROM pg_proc p
   WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = 'pg_logical_emit_message' AND p.proargtypes[2] = 'text'::regtype`;

/** A table that is to be copied. */
interface CopiedTable {
  readonly oid: number;
  readonly name: TableName;
}

/** Rejects with a finding for each table that the role may not read whole, and for the marks that it may not write; does nothing without tables. */
export async function refuseUncopyable(client: pg.Client, tables: readonly CopiedTable[]): Promise<void> {
  if (tables.length === 0) return;
  const findings: CascadeError[] = [];
  const byOid = new Map(tables.map((table) => [String(table.oid), table.name]));
  try {
    const { rows } = await client.query<{ oid: string; granted: boolean; hidden: boolean }>(RIGHTS, [[...byOid.keys()]]);
    for (const { oid, granted, hidden } of rows) {
      const name = byOid.get(oid);
      if (name === undefined || (granted && !hidden)) continue;
      findings.push(granted ? hiddenRows(name) : unreadable(name));
    }
    const mark = await client.query<{ granted: boolean }>(MAY_MARK);
    if (mark.rows[0]?.granted !== true) findings.push(mayNotMark());
  } catch (error) {
    throw postgresError(error, "cannot check the rights of the role of CDC_DATABASE_URL");
  }
  if (findings.length > 0) throw new RefusalError(findings);
}

const missing = (message: string, advice: string) =>
  new CascadeError({ code: "MISSING_RIGHT", verdict: "refuse", message, advice });

const unreadable = (name: TableName) =>
  missing(
    `the role of CDC_DATABASE_URL may not read ${formatTableName(name)}, which was never copied`,
    `GRANT USAGE ON SCHEMA ${quoteName(name.schema)} TO <user>; GRANT SELECT ON ${quoteTableName(name)} TO <user>; or exclude the table: CDC_TABLES=...,!${formatTableName(name)}; or CDC_SNAPSHOT=never, when the replicas have its rows already`,
  );

const hiddenRows = (name: TableName) =>
  missing(
    `row level security hides rows of ${formatTableName(name)}, which was never copied, from the role of CDC_DATABASE_URL`,
    `ALTER ROLE <user> BYPASSRLS; or exclude the table: CDC_TABLES=...,!${formatTableName(name)}; or CDC_SNAPSHOT=never, when the replicas have its rows already`,
  );

const mayNotMark = () =>
  missing(
    "the role of CDC_DATABASE_URL may not execute pg_logical_emit_message, which tables are copied by",
    "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) TO <user>; or CDC_SNAPSHOT=never, when the replicas have all rows already",
  );
