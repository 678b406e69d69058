import { CascadeError } from "@cascade/shared/errors";
import { formatTableName, quoteTableName } from "@cascade/shared/topic";
import type { Relation } from "./catalog.ts";

/**
 * The error when updates and deletes of a relation would not reach the slot, or not with the key its rows travel under; null when all is
 * well. PostgreSQL drops such changes with no more than a warning in its own log (facts.md §1.5).
 * `changesMayBeLost`: found while cdc runs, when rows may have been changed already.
 */
export function missingIdentity(
  { name, kind, schema, identityColumns }: Relation,
  { changesMayBeLost = false }: { readonly changesMayBeLost?: boolean } = {},
): CascadeError | null {
  // A partitioned table has no rows of its own; each of its partitions is asked by itself.
  if (kind === "partitioned" || kind === "branch" || identityColumns === null) return null;
  const sent = new Set(identityColumns);
  if (schema.key.length > 0 && schema.key.every((column) => sent.has(column))) return null;
  const table = formatTableName(name);
  const sqlName = quoteTableName(name);
  const why =
    sent.size === 0
      ? "it has no primary key and no replica identity"
      : "its replica identity is not the key of its partitioned table";
  return new CascadeError({
    code: "NO_REPLICA_IDENTITY",
    verdict: "refuse",
    message: `updates and deletes of ${table} would be silently lost: ${why}`,
    advice: `ALTER TABLE ${sqlName} REPLICA IDENTITY FULL; or give it a primary key; or exclude it: CDC_TABLES=...,!${table}${changesMayBeLost ? LOST_ALREADY : ""}`,
  });
}

const LOST_ALREADY =
  ". What was updated or deleted in it before that will not arrive, so write its rows anew in one transaction: CREATE TEMPORARY TABLE c AS TABLE <it>; TRUNCATE <it>; INSERT INTO <it> TABLE c";
