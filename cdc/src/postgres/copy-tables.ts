import type pg from "pg";
import type { CopyTable } from "../snapshot/table-reader.ts";
import type { Catalog } from "./catalog.ts";
import { postgresError } from "./session.ts";

const SIZES = `
  SELECT r.oid::text AS oid, sum(pg_relation_size(c.oid) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0))::text AS bytes,
         CASE WHEN bool_or(c.reltuples >= 0) THEN sum(greatest(c.reltuples, 0))::text END AS rows
    FROM unnest($1::oid[]) AS r(oid)
   CROSS JOIN LATERAL pg_partition_tree(r.oid) AS p
    JOIN pg_class c ON c.oid = p.relid
   WHERE c.relkind = 'r'
   GROUP BY r.oid`;

/** Which of these are tables now, captured or not. */
export async function existingTables(client: pg.Client, oids: readonly number[]): Promise<ReadonlySet<number>> {
  try {
    const { rows } = await client.query<{ readonly oid: string }>(
      "SELECT oid::text FROM pg_class WHERE oid = ANY($1::oid[]) AND relkind IN ('r', 'p')",
      [oids],
    );
    return new Set(rows.map(({ oid }) => Number(oid)));
  } catch (error) {
    throw postgresError(error, "cannot ask main-db for its tables");
  }
}

/** Every table that is captured now: ordinary ones, and roots of partition trees. */
export async function copyTables(client: pg.Client, catalog: Catalog): Promise<readonly CopyTable[]> {
  const roots = (await catalog.captured()).filter(({ kind }) => kind === "table" || kind === "partitioned");
  try {
    const oids = roots.map(({ schema }) => schema.oid);
    const { rows } = await client.query<{ oid: string; bytes: string; rows: string | null }>(SIZES, [oids]);
    const sizes = new Map(rows.map((row) => [Number(row.oid), row]));
    return roots.map(({ schema }) => {
      const size = sizes.get(schema.oid);
      const estimatedRows = size === undefined || size.rows === null ? null : Number(size.rows);
      return { schema, estimatedRows, bytes: Number(size?.bytes ?? 0) };
    });
  } catch (error) {
    throw postgresError(error, "cannot ask main-db for the size of its tables");
  }
}
