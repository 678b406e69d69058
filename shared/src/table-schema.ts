import { createHash } from "node:crypto";
import { z } from "zod";

/** How main-db identifies the old row of an UPDATE or DELETE (`pg_class.relreplident`). */
export const REPLICA_IDENTITIES = ["default", "full", "index", "nothing"] as const;
export type ReplicaIdentity = (typeof REPLICA_IDENTITIES)[number];

export interface ColumnSchema {
  readonly name: string;
  /** `pg_attribute.attnum`: survives a rename, never reused. */
  readonly attnum: number;
  /** `format_type` of the base type (a domain's base), e.g. `numeric(10,2)`, `integer[]`; types outside pg_catalog are schema-qualified. */
  readonly type: string;
  /** OID of that base type. Below 16384 it is built in and the same on every PostgreSQL. */
  readonly typeOid: number;
  /** Type modifier of that base type, -1 for none. */
  readonly typmod: number;
  readonly nullable: boolean;
  /** The default's SQL expression, or null. */
  readonly default: string | null;
  /** GENERATED ALWAYS AS ... STORED: its value arrives like any other column's. */
  readonly generated: boolean;
  /**
   * The wire value that rows from before the column was added have in it (`pg_attribute.attmissingval`); absent when there is none, and
   * then they have NULL, or the table was rewritten.
   */
  readonly missing?: string | number | boolean;
}

export interface TableSchema {
  /** Content hash: 16 hex digits, the same for the same schema after any restart. */
  readonly id: string;
  readonly schema: string;
  readonly table: string;
  readonly oid: number;
  /** In attnum order, dropped columns left out. */
  readonly columns: readonly ColumnSchema[];
  /** Columns of the primary key (or replica identity index) in index order; empty for a table without one. */
  readonly key: readonly string[];
  readonly identity: ReplicaIdentity;
}

/** First OID of objects made by users (PostgreSQL's FirstNormalObjectId): everything below is built in. */
export const FIRST_USER_OID = 16_384;

/** Gives a schema its content-addressed id. */
export function identifySchema(schema: Omit<TableSchema, "id">): TableSchema {
  const content = JSON.stringify([
    schema.schema,
    schema.table,
    schema.oid,
    schema.columns.map(columnContent),
    schema.key,
    schema.identity,
  ]);
  return { id: createHash("sha256").update(content).digest("hex").slice(0, 16), ...schema };
}

/** Without `missing` where there is none: ids from before there was such a thing stay. */
function columnContent(c: ColumnSchema): readonly unknown[] {
  const content = [c.name, c.attnum, c.type, c.typeOid, c.typmod, c.nullable, c.default, c.generated];
  return c.missing === undefined ? content : [...content, c.missing];
}

export const tableSchemaShape = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  schema: z.string().min(1),
  table: z.string().min(1),
  oid: z.number().int().nonnegative(),
  columns: z
    .array(
      z.object({
        name: z.string().min(1),
        attnum: z.number().int().positive(),
        type: z.string().min(1),
        typeOid: z.number().int().nonnegative(),
        typmod: z.number().int(),
        nullable: z.boolean(),
        default: z.string().nullable(),
        generated: z.boolean(),
        missing: z.union([z.string(), z.number(), z.boolean()]).exactOptional(),
      }),
    )
    .readonly(),
  key: z.array(z.string()).readonly(),
  identity: z.enum(REPLICA_IDENTITIES),
});

/** Key and value of the message on `<prefix>.schemas` (contract.md §3): compaction keeps every version. */
export function encodeSchemaMessage(schema: TableSchema): { readonly key: string; readonly value: string } {
  const { id, ...content } = schema;
  return {
    key: JSON.stringify({ schema: schema.schema, table: schema.table, id }),
    value: JSON.stringify(content),
  };
}

const schemaKeyShape = tableSchemaShape.pick({ schema: true, table: true, id: true });
const schemaValueShape = tableSchemaShape.omit({ id: true });

/** The schema in a message of `<prefix>.schemas`. Throws SyntaxError or ZodError when it is not one. */
export function decodeSchemaMessage(key: string, value: string): TableSchema {
  return { id: schemaKeyShape.parse(JSON.parse(key)).id, ...schemaValueShape.parse(JSON.parse(value)) };
}
