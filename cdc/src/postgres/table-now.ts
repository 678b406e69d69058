import { quoteTableName } from "@cascade/shared/topic";
import type pg from "pg";

/** A table as main-db's catalog has it now: an event may be older, and its names stale. */
export interface TableNow {
  readonly oid: number;
  /** Its name in SQL. */
  readonly sqlName: string;
  /** Of the columns asked for, those that are still there, by attnum. */
  readonly columns: ReadonlyMap<number, ColumnNow>;
}

export interface ColumnNow {
  readonly name: string;
  /** Its type in SQL without a modifier, a domain's base type: a domain over an enum has no `=` of its own. */
  readonly type: string;
  readonly typeOid: number;
  /** Where the type's `=` is that an index uses: an extension brings its own. */
  readonly operatorSchema: string;
}

interface Row {
  readonly schema: string;
  readonly table: string;
  readonly attnum: number;
  readonly name: string;
  readonly type: string;
  readonly type_oid: string;
  readonly operator_schema: string;
}

const TABLE_NOW = `
  WITH RECURSIVE base(declared, type, parent) AS (
    SELECT oid, oid, typbasetype FROM pg_type
    UNION ALL
    SELECT base.declared, t.oid, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.parent)
  SELECT n.nspname AS schema, c.relname AS "table", a.attnum, a.attname AS name, format_type(b.type, -1) AS type,
         a.atttypid::text AS type_oid, coalesce(eq.nspname, 'pg_catalog') AS operator_schema
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY($2::int[]) AND NOT a.attisdropped
    JOIN base b ON b.declared = a.atttypid AND b.parent = 0
    LEFT JOIN LATERAL (
      SELECT space.nspname
        FROM pg_opclass k
        JOIN pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree'
        JOIN pg_amop o ON o.amopfamily = k.opcfamily AND o.amopstrategy = 3 AND o.amoplefttype = k.opcintype AND o.amoprighttype = k.opcintype
        JOIN pg_operator op ON op.oid = o.amopopr
        JOIN pg_namespace space ON space.oid = op.oprnamespace
       WHERE k.opcdefault AND k.opcintype = b.type
       LIMIT 1) eq ON true
   WHERE c.oid = $1`;

/** null when the table, or every one of those columns, is gone. */
export async function tableNow(client: pg.Client, oid: number, attnums: readonly number[]): Promise<TableNow | null> {
  const { rows } = await client.query<Row>(TABLE_NOW, [oid, attnums]);
  const [first] = rows;
  if (first === undefined) return null;
  const columns = rows.map(({ attnum, name, type, type_oid, operator_schema }): readonly [number, ColumnNow] => [
    attnum,
    { name, type, typeOid: Number(type_oid), operatorSchema: operator_schema },
  ]);
  return { oid, sqlName: quoteTableName(first), columns: new Map(columns) };
}
