import { createHash } from "node:crypto";
import { z } from "zod";
import type { Position } from "./lsn.ts";

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
  // Not `readonly()`, which freezes: JavaScriptCore keeps a frozen array as a map, which is larger and slower to read.
  columns: z.array(
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
  ),
  key: z.array(z.string()),
  identity: z.enum(REPLICA_IDENTITIES),
});

/** What `<prefix>.schemas` says of a table from a place in the WAL on; the newest message of an oid is how that table is now. */
export type SchemaMessage =
  | {
      readonly kind: "schema";
      readonly schema: TableSchema;
      /** From there on the table looks like this; null in a message of a version that did not say. */
      readonly at: Position | null;
      /** Its rows were changed in a way that is not in the WAL: a copy of the table follows. */
      readonly rewritten: boolean;
      /** Into how many partitions of its topic cdc divides its rows; absent: one. */
      readonly partitions?: number;
    }
  | {
      readonly kind: "dropped";
      readonly schema: string;
      readonly table: string;
      readonly oid: number;
      readonly at: Position | null;
    };

/** A message's key and value (contract.md §3): compaction keeps every version of a schema, and that a table was dropped. */
export interface EncodedSchemaMessage {
  readonly key: string;
  readonly value: string;
}

/** A schema without a place. */
export const encodeSchemaMessage = (schema: TableSchema): EncodedSchemaMessage =>
  encodeSchemaNews({ kind: "schema", schema, at: null, rewritten: false });

export function encodeSchemaNews(news: SchemaMessage): EncodedSchemaMessage {
  const at = placeJson(news.at);
  if (news.kind === "dropped") {
    const { schema, table, oid } = news;
    return {
      key: JSON.stringify({ schema, table, id: `dropped-${oid}` }),
      value: `{${JSON.stringify({ schema, table, oid, dropped: true }).slice(1, -1)}${at}}`,
    };
  }
  const { id, ...content } = news.schema;
  const rewritten = news.rewritten ? ',"rewritten":true' : "";
  const partitions = news.partitions === undefined ? "" : `,"partitions":${news.partitions}`;
  return {
    key: JSON.stringify({ schema: content.schema, table: content.table, id }),
    value: `{${JSON.stringify(content).slice(1, -1)}${at}${rewritten}${partitions}}`,
  };
}

/** By hand: JSON has no bigint. */
const placeJson = (at: Position | null): string =>
  at === null ? "" : `,"at":{"commit_lsn":${at.commitLsn},"ordinal":${at.ordinal}}`;

const placeShape = z.object({ commit_lsn: z.bigint().nonnegative(), ordinal: z.number().int().nonnegative() }).exactOptional();
const schemaKeyShape = tableSchemaShape.pick({ schema: true, table: true, id: true });
const schemaValueShape = tableSchemaShape.omit({ id: true }).extend({
  at: placeShape,
  rewritten: z.boolean().exactOptional(),
  partitions: z.number().int().positive().exactOptional(),
});
const droppedShape = tableSchemaShape
  .pick({ schema: true, table: true, oid: true })
  .extend({ at: placeShape, dropped: z.literal(true) });

/** Reads a message of `<prefix>.schemas`. Throws SyntaxError or ZodError when it is not one. */
export function decodeSchemaMessage(key: string, value: string): SchemaMessage {
  const content: unknown = JSON.parse(value, exactLsn);
  if (typeof content === "object" && content !== null && "dropped" in content) {
    const { schema, table, oid, at } = droppedShape.parse(content);
    return { kind: "dropped", schema, table, oid, at: positionOf(at) };
  }
  const { at, rewritten = false, partitions, ...rest } = schemaValueShape.parse(content);
  const schema = { id: schemaKeyShape.parse(JSON.parse(key)).id, ...rest };
  return { kind: "schema", schema, at: positionOf(at), rewritten, ...(partitions === undefined ? {} : { partitions }) };
}

const positionOf = (at: z.infer<typeof placeShape> | undefined): Position | null =>
  at === undefined ? null : { commitLsn: at.commit_lsn, ordinal: at.ordinal };

/** Past 2^53 JSON.parse has rounded an LSN: taken from the source text. */
function exactLsn(key: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (key !== "commit_lsn" || typeof value !== "number" || context?.source === undefined) return value;
  return BigInt(context.source);
}
