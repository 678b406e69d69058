import type { TableFilter } from "@cascade/shared/table-pattern";
import { type ColumnSchema, identifySchema, type ReplicaIdentity, type TableSchema } from "@cascade/shared/table-schema";
import { type TableName, topicOf } from "@cascade/shared/topic";
import type { CapturedTable } from "./table-decoder.ts";
import { wireValueOfText } from "./wire-value.ts";

/**
 * A relation that the WAL names: an ordinary table or a leaf partition; in a truncate also a partitioned table, and a partition that is
 * partitioned itself (a branch).
 */
export interface Relation extends CapturedTable {
  /** Its own: a partition's, where `schema.oid` is its root's. */
  readonly oid: number;
  readonly name: TableName;
  readonly kind: "table" | "partition" | "partitioned" | "branch";
  /** Columns that the WAL shows of the old row: null for all of them (FULL), empty when updates and deletes are silently dropped. */
  readonly identityColumns: readonly string[] | null;
  /** Made from its schema alone: what its rows' columns are declared as, and in which order a partition has them, is a guess. */
  readonly guessed?: true;
}

/** Rows of catalog-sql.ts, as cdc reads them and as the event trigger writes them; OIDs are text. */
export interface RelationRow {
  readonly kind: Relation["kind"];
  readonly oid: string;
  readonly root_oid: string;
  readonly schema: string;
  readonly table: string;
  readonly root_schema: string;
  readonly root_table: string;
  /** Only in a message, of a relation with rows of its own: it holds some. */
  readonly filled?: boolean;
}
export interface ColumnRow {
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
  readonly missing: string | null;
}
export interface IdentityRow {
  readonly rel: string;
  readonly identity: "d" | "f" | "i" | "n";
  readonly primary_key: readonly string[] | null;
  readonly identity_index: readonly string[] | null;
}

/** What the catalog says of some relations and of their roots. */
export interface CatalogRows {
  readonly relations: readonly RelationRow[];
  readonly columns: readonly ColumnRow[];
  readonly identities: readonly IdentityRow[];
}

/** Which tables are captured, and what their topics are called. */
export interface Capture {
  readonly filter: TableFilter;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
}

export const isCaptured = ({ filter }: Capture, row: RelationRow): boolean =>
  filter.matches({ schema: row.root_schema, table: row.root_table });

/** The captured ones of the rows as relations, in their order. A partition is captured as its root is. */
export function relationsOf(rows: CatalogRows, capture: Capture): readonly Relation[] {
  const columns = Map.groupBy(rows.columns, ({ rel }) => rel);
  const identities = new Map(rows.identities.map((row) => [row.rel, row]));
  const roots = new Map<string, TableSchema>();
  const rootOf = (row: RelationRow): TableSchema => {
    const known = roots.get(row.root_oid);
    if (known !== undefined) return known;
    const root = tableSchema(row, columns.get(row.root_oid) ?? [], identities.get(row.root_oid));
    roots.set(row.root_oid, root);
    return root;
  };
  return rows.relations
    .filter((row) => isCaptured(capture, row))
    .map((row) => {
      const own = identities.get(row.oid);
      return {
        oid: Number(row.oid),
        name: { schema: row.schema, table: row.table },
        kind: row.kind,
        topic: topicOf(capture.prefix, { schema: row.root_schema, table: row.root_table }),
        schema: rootOf(row),
        walColumns: (columns.get(row.oid) ?? []).map(({ name, declared }) => ({ name, declaredTypeOid: Number(declared) })),
        identityColumns: own === undefined ? [] : identityColumns(own),
      };
    });
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

function tableSchema(row: RelationRow, columns: readonly ColumnRow[], identity: IdentityRow | undefined): TableSchema {
  return identifySchema({
    schema: row.root_schema,
    table: row.root_table,
    oid: Number(row.root_oid),
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
    ...(row.missing === null ? {} : { missing: wireValueOfText(Number(row.type_oid), row.missing) }),
  };
}
