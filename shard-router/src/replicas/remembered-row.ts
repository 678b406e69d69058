import { parseLsn } from "@cascade/shared/lsn";
import type { TableSchema } from "@cascade/shared/table-schema";
import type { RememberedTable } from "../replica.ts";

/** A row of cascade_tables as any engine gives it, numbers as such or as text. */
export type RememberedRow = Readonly<Record<string, unknown>>;

export const rememberedOf = (row: RememberedRow): RememberedTable => ({
  oid: Number(row["oid"]),
  schema: JSON.parse(String(row["schema"])) as TableSchema,
  at: { commitLsn: parseLsn(String(row["commit_lsn"])), ordinal: Number(row["ordinal"]) },
  named: { schema: String(row["named_schema"]), table: String(row["named_table"]) },
  revision: Number(row["revision"]),
  awaiting: row["awaiting"] === null ? null : String(row["awaiting"]),
});

/**
 * Whether a table that is not there may be made: it has the name that the caller has read, and is what it has read of it where `revision` says
 * that. `found`: what is remembered of it now.
 */
export function mayBeMadeBy(
  found: { readonly isCalledSo: boolean; readonly revision: unknown } | null,
  revision?: number,
): boolean {
  if (found === null) return revision === undefined;
  return found.isCalledSo && (revision === undefined || Number(found.revision) === revision);
}
