import { CascadeError } from "@cascade/shared/errors";
import { RefusalError } from "@cascade/shared/settings";
import { formatTableName, quoteName, quoteTableName, type TableName } from "@cascade/shared/topic";
import type pg from "pg";
import type { Catalog, Relation } from "./catalog.ts";
import { postgresError } from "./session.ts";
import { dropSlot } from "./slot.ts";
import { losesSpecialNumbers } from "./wire-value.ts";

const RIGHTS = `
  SELECT c.oid::text AS oid, has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS granted,
         row_security_active(c.oid) AS hidden
    FROM pg_class c WHERE c.oid = ANY($1::oid[])`;

interface Rights {
  readonly oid: string;
  readonly granted: boolean;
  readonly hidden: boolean;
}

/** A finding for every table whose numbers wal2json before 2.6 may lose and that the role may not read. */
export async function missingReadRights(client: pg.Client, relations: readonly Relation[]): Promise<readonly CascadeError[]> {
  const tables = new Map(relations.filter(mayLoseNumbers).map(({ schema }) => [String(schema.oid), schema]));
  try {
    const { rows } = await client.query<Rights>(RIGHTS, [[...tables.keys()]]);
    return rows.flatMap(({ oid, granted, hidden }) => {
      const table = tables.get(oid);
      return table === undefined || (granted && !hidden) ? [] : [missingReadRight(table)];
    });
  } catch (error) {
    throw postgresError(error, "cannot check the rights of the role of CDC_DATABASE_URL");
  }
}

/**
 * Rejects with those findings. `newSlot` names a slot that was made for this start: it is taken back, for nobody would read it and it
 * would hold main-db's WAL.
 */
export async function refuseUnreadable(client: pg.Client, catalog: Catalog, newSlot: string | null): Promise<void> {
  const missing = await missingReadRights(client, await catalog.captured());
  if (missing.length === 0) return;
  if (newSlot !== null) await dropSlot(client, newSlot);
  throw new RefusalError(missing);
}

const mayLoseNumbers = ({ walColumns }: Relation): boolean =>
  walColumns.some(({ declaredTypeOid }) => losesSpecialNumbers(declaredTypeOid));

export function missingReadRight(table: TableName): CascadeError {
  return new CascadeError({
    code: "MISSING_RIGHT",
    verdict: "refuse",
    message: `the role of CDC_DATABASE_URL may not read all of ${formatTableName(table)}: main-db's wal2json, older than 2.6, sends NaN and infinities as null, and cdc must look them up there`,
    advice: `GRANT USAGE ON SCHEMA ${quoteName(table.schema)} TO <user>; GRANT SELECT ON ${quoteTableName(table)} TO <user>; where row level security hides rows, ALTER ROLE <user> BYPASSRLS; or install wal2json 2.6 or newer; or exclude the table: CDC_TABLES=...,!${formatTableName(table)}`,
  });
}
