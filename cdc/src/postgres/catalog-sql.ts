/**
 * What makes a `Relation`, read from the catalog: by cdc itself (catalog.ts), and by the event trigger inside the transaction of a schema
 * change (ddl-trigger.ts). Both give the rows of relation.ts. `$1` is an array of OIDs.
 */

const ORDINARY_SCHEMA = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'";

/** What is captured can only be of these: no views (a materialized one leaks into the WAL), no temporary or unlogged tables. */
export const RELATION_KINDS = "c.relkind IN ('r', 'p') AND c.relpersistence = 'p'";

/** @param where a condition on `c` (pg_class) and `n` (pg_namespace) */
export const relationsSql = (where: string): string => `
  SELECT CASE WHEN c.relkind = 'p' AND c.relispartition THEN 'branch' WHEN c.relkind = 'p' THEN 'partitioned' WHEN c.relispartition THEN 'partition' ELSE 'table' END AS kind, c.oid::text AS oid, r.oid::text AS root_oid, n.nspname::text AS schema, c.relname::text AS "table",
         rn.nspname::text AS root_schema, r.relname::text AS root_table
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END
    JOIN pg_namespace rn ON rn.oid = r.relnamespace
   WHERE ${RELATION_KINDS} AND ${ORDINARY_SCHEMA} AND (${where})
   ORDER BY c.oid`;

// A domain is followed down to its base type; the modifier is the one the innermost domain gives. A partitioned table has no rows of its
// own: what its older rows have in a newer column its partitions say.
export const COLUMNS_SQL = `
  SELECT a.attrelid::text AS rel, a.attname::text AS name, a.attnum, a.atttypid::text AS declared,
         format_type(base.oid, base.typmod) AS type, base.oid::text AS type_oid, base.typmod,
         NOT (a.attnotnull OR base.not_null) AS nullable,
         CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS default, a.attgenerated <> '' AS generated,
         CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1]
              WHEN a.atthasdef AND c.relkind = 'p' THEN (
                SELECT (l.attmissingval::text::text[])[1]
                  FROM pg_partition_tree(a.attrelid) t
                  JOIN pg_attribute l ON l.attrelid = t.relid AND l.attname = a.attname AND l.atthasmissing
                 LIMIT 1)
         END AS missing
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   CROSS JOIN LATERAL (
     WITH RECURSIVE down(oid, typmod, not_null, typtype, typbasetype, typtypmod) AS (
       SELECT t.oid, a.atttypmod, t.typnotnull, t.typtype, t.typbasetype, t.typtypmod FROM pg_type t WHERE t.oid = a.atttypid
       UNION ALL
       SELECT t.oid, down.typtypmod, down.not_null OR t.typnotnull, t.typtype, t.typbasetype, t.typtypmod
         FROM down JOIN pg_type t ON t.oid = down.typbasetype WHERE down.typtype = 'd')
     SELECT oid, typmod, not_null FROM down WHERE typtype <> 'd') base
   WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
   ORDER BY a.attrelid, a.attnum`;

// A deferrable primary key is no replica identity (PostgreSQL's RelationGetIndexList), so it is no key here either.
export const IDENTITIES_SQL = `
  SELECT c.oid::text AS rel, c.relreplident AS identity, pk.names AS primary_key, ri.names AS identity_index
    FROM pg_class c
    LEFT JOIN LATERAL (${indexColumns("i.indisprimary AND i.indimmediate")}) pk ON true
    LEFT JOIN LATERAL (${indexColumns("i.indisreplident")}) ri ON true
   WHERE c.oid = ANY($1::oid[])`;

function indexColumns(which: string): string {
  return `SELECT array_agg(a.attname::text ORDER BY k.ord) AS names
            FROM pg_index i
           CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, ord)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           WHERE i.indrelid = c.oid AND i.indisvalid AND ${which} AND k.ord <= i.indnkeyatts
           GROUP BY i.indexrelid`;
}

/** Another text whenever any relation's definition, key or place in a partition tree has: whatever does that writes one of these rows anew. */
export const FINGERPRINT_SQL = `
  SELECT coalesce(md5(string_agg(concat_ws(' ', c.oid, c.xmin, a.seen, i.seen, p.seen), ',' ORDER BY c.oid)), '') AS fingerprint
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT attrelid, string_agg(xmin::text, ' ' ORDER BY attnum) AS seen FROM pg_attribute WHERE attnum > 0 GROUP BY 1) a ON a.attrelid = c.oid
    LEFT JOIN (SELECT indrelid, string_agg(concat_ws(':', indexrelid, xmin), ' ' ORDER BY indexrelid) AS seen FROM pg_index GROUP BY 1) i ON i.indrelid = c.oid
    LEFT JOIN (SELECT inhrelid, string_agg(concat_ws(':', inhparent, xmin), ' ' ORDER BY inhparent) AS seen FROM pg_inherits GROUP BY 1) p ON p.inhrelid = c.oid
   WHERE ${RELATION_KINDS} AND ${ORDINARY_SCHEMA}`;
