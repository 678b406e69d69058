import type { TableFilter } from "@cascade/shared/table-pattern";
import { type ColumnSchema, identifySchema, type ReplicaIdentity, type TableSchema } from "@cascade/shared/table-schema";
import { type TableName, topicOf } from "@cascade/shared/topic";
import type pg from "pg";
import { postgresError } from "./session.ts";
import type { CapturedTable } from "./table-decoder.ts";

/**
 * A relation that the WAL names: an ordinary table or a leaf partition; in a truncate also a partitioned table, and a partition that is
 * partitioned itself (a branch).
 */
export interface Relation extends CapturedTable {
  readonly name: TableName;
  readonly kind: "table" | "partition" | "partitioned" | "branch";
  /** Columns that the WAL shows of the old row: null for all of them (FULL), empty when updates and deletes are silently dropped. */
  readonly identityColumns: readonly string[] | null;
}

interface RelationRow {
  readonly kind: Relation["kind"];
  readonly oid: string;
  readonly root_oid: string;
  readonly schema: string;
  readonly table: string;
  readonly root_schema: string;
  readonly root_table: string;
}
interface ColumnRow {
  readonly rel: string;
  readonly name: string;
  readonly attnum: number;
  readonly declared: string;
  readonly type: string;
  readonly type_oid: string;
  readonly typmod: number;
  readonly nullable: boolean;
  readonly default: string | null;
  readonly generated: boolean;
}
interface IdentityRow {
  readonly rel: string;
  readonly identity: "d" | "f" | "i" | "n";
  readonly primary_key: readonly string[] | null;
  readonly identity_index: readonly string[] | null;
}

// Only what writes rows that belong to someone: no views (a materialized one leaks into the WAL), no temporary or unlogged tables.
const RELATIONS = `
  SELECT CASE WHEN c.relkind = 'p' AND c.relispartition THEN 'branch' WHEN c.relkind = 'p' THEN 'partitioned' WHEN c.relispartition THEN 'partition' ELSE 'table' END AS kind, c.oid::text AS oid, r.oid::text AS root_oid, n.nspname AS schema, c.relname AS "table",
         rn.nspname AS root_schema, r.relname AS root_table
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class r ON r.oid = CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END
    JOIN pg_namespace rn ON rn.oid = r.relnamespace
   WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
     AND ($1::text IS NULL OR (n.nspname = $1 AND c.relname = $2))
   ORDER BY c.oid`;

// A domain is followed down to its base type; the modifier is the one the innermost domain gives.
const COLUMNS = `
  SELECT a.attrelid::text AS rel, a.attname AS name, a.attnum, a.atttypid::text AS declared,
         format_type(base.oid, base.typmod) AS type, base.oid::text AS type_oid, base.typmod,
         NOT (a.attnotnull OR base.not_null) AS nullable,
         CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS default, a.attgenerated <> '' AS generated
    FROM pg_attribute a
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
const IDENTITIES = `
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

// Whatever makes a row of a table look different, or go elsewhere, writes one of these catalog rows anew.
const FINGERPRINT = `
  SELECT coalesce(md5(string_agg(concat_ws(' ', c.oid, c.xmin, a.seen, i.seen, p.seen), ',' ORDER BY c.oid)), '') AS fingerprint
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (SELECT attrelid, string_agg(xmin::text, ' ' ORDER BY attnum) AS seen FROM pg_attribute WHERE attnum > 0 GROUP BY 1) a ON a.attrelid = c.oid
    LEFT JOIN (SELECT indrelid, string_agg(concat_ws(':', indexrelid, xmin), ' ' ORDER BY indexrelid) AS seen FROM pg_index GROUP BY 1) i ON i.indrelid = c.oid
    LEFT JOIN (SELECT inhrelid, string_agg(concat_ws(':', inhparent, xmin), ' ' ORDER BY inhparent) AS seen FROM pg_inherits GROUP BY 1) p ON p.inhrelid = c.oid
   WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'`;

/** Tables, keys and types as main-db's catalog has them now. */
export class Catalog {
  readonly #client: pg.Client;
  readonly #filter: TableFilter;
  readonly #prefix: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: pg.Client, filter: TableFilter, topicPrefix: string) {
    this.#client = client;
    this.#filter = filter;
    this.#prefix = topicPrefix;
  }

  /** Every relation whose rows are captured now. */
  async captured(): Promise<readonly Relation[]> {
    return (await this.#read(null)).relations;
  }

  /** One relation by the name that the WAL uses; `absent` when no table has it now (it may be a materialized view's, or dropped). */
  async relation(name: TableName): Promise<Relation | "excluded" | "absent"> {
    const { found, relations } = await this.#read(name);
    return relations[0] ?? (found > 0 ? "excluded" : "absent");
  }

  /** The same, seen by the transaction that the session is in. */
  async relationInTransaction(name: TableName): Promise<Relation | "excluded" | "absent"> {
    const { found, relations } = await this.#find(name);
    return relations[0] ?? (found > 0 ? "excluded" : "absent");
  }

  /** Another text whenever any table's definition, key or place in a partition tree has changed. */
  fingerprint(): Promise<string> {
    return this.#inOneSnapshot(async () => {
      const [row] = await this.#query<{ readonly fingerprint: string }>(FINGERPRINT, []);
      return row?.fingerprint ?? "";
    });
  }

  /** Several queries that see the same catalog, one such group after the other. */
  #inOneSnapshot<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(async () => {
      try {
        await this.#client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const result = await work();
        await this.#client.query("COMMIT");
        return result;
      } catch (error) {
        // A lost connection has ended it already.
        await this.#client.query("ROLLBACK").catch(() => undefined);
        throw postgresError(error, "cannot read main-db's catalog");
      }
    });
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  #read(name: TableName | null): Promise<{ readonly found: number; readonly relations: readonly Relation[] }> {
    return this.#inOneSnapshot(() => this.#find(name));
  }

  async #find(name: TableName | null): Promise<{ readonly found: number; readonly relations: readonly Relation[] }> {
    const found = await this.#query<RelationRow>(RELATIONS, [name?.schema ?? null, name?.table ?? null]);
    const relations = found.filter((row) => this.#filter.matches({ schema: row.root_schema, table: row.root_table }));
    if (relations.length === 0) return { found: found.length, relations: [] };
    const oids = [...new Set(relations.flatMap((row) => [row.oid, row.root_oid]))];
    const columns = Map.groupBy(await this.#query<ColumnRow>(COLUMNS, [oids]), (row) => row.rel);
    const identities = new Map((await this.#query<IdentityRow>(IDENTITIES, [oids])).map((row) => [row.rel, row]));
    return { found: found.length, relations: relations.map((row) => this.#relation(row, columns, identities)) };
  }

  async #query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
    return (await this.#client.query<Row>(text, values)).rows;
  }

  #relation(
    row: RelationRow,
    columns: ReadonlyMap<string, readonly ColumnRow[]>,
    identities: ReadonlyMap<string, IdentityRow>,
  ): Relation {
    const root = { schema: row.root_schema, table: row.root_table };
    const own = identities.get(row.oid);
    const ownColumns = columns.get(row.oid) ?? [];
    return {
      name: { schema: row.schema, table: row.table },
      kind: row.kind,
      topic: topicOf(this.#prefix, root),
      schema: tableSchema(root, row.root_oid, columns.get(row.root_oid) ?? [], identities.get(row.root_oid)),
      walColumns: ownColumns.map((column) => ({ name: column.name, declaredTypeOid: Number(column.declared) })),
      identityColumns: own === undefined ? [] : identityColumns(own),
    };
  }
}

const IDENTITY_NAMES: Readonly<Record<IdentityRow["identity"], ReplicaIdentity>> = {
  d: "default",
  f: "full",
  i: "index",
  n: "nothing",
};

function identityColumns(row: IdentityRow): readonly string[] | null {
  switch (row.identity) {
    case "f":
      return null;
    case "i":
      return row.identity_index ?? [];
    case "d":
      return row.primary_key ?? [];
    case "n":
      return [];
  }
}

function tableSchema(
  name: TableName,
  oid: string,
  columns: readonly ColumnRow[],
  identity: IdentityRow | undefined,
): TableSchema {
  return identifySchema({
    ...name,
    oid: Number(oid),
    columns: columns.map(columnSchema),
    key: (identity?.identity === "i" ? identity.identity_index : identity?.primary_key) ?? [],
    identity: IDENTITY_NAMES[identity?.identity ?? "n"],
  });
}

function columnSchema(row: ColumnRow): ColumnSchema {
  return {
    name: row.name,
    attnum: row.attnum,
    type: row.type,
    typeOid: Number(row.type_oid),
    typmod: row.typmod,
    nullable: row.nullable,
    default: row.default,
    generated: row.generated,
  };
}
