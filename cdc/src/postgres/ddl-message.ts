import { z } from "zod";
import type { CatalogRows } from "./relation.ts";

/** What a logical message with the prefix `cascade.ddl` says, at its place in the WAL (ddl-trigger.ts writes them). */
export type DdlMessage =
  /** What some relations of one tree look like from here on. `late`: they may have looked so before, the trigger was not there to say. */
  | { readonly kind: "relations"; readonly late: boolean; readonly rows: CatalogRows }
  /** Relations that are not captured from here on; not dropped: made unlogged. */
  | { readonly kind: "gone"; readonly oids: readonly { readonly oid: number; readonly dropped: boolean }[] }
  /** The next schema of this table comes with rows that were changed past the WAL. */
  | { readonly kind: "rewritten"; readonly oid: number }
  /** Something has changed, and only the catalog can tell what. */
  | { readonly kind: "look" };

const oid = z.string().regex(/^\d+$/);
const names = z.array(z.string()).readonly().nullable();
const relationShape = z.object({
  filled: z.boolean().exactOptional(),
  kind: z.enum(["table", "partition", "partitioned", "branch"]),
  oid,
  root_oid: oid,
  schema: z.string(),
  table: z.string(),
  root_schema: z.string(),
  root_table: z.string(),
});
const columnShape = z.object({
  rel: oid,
  name: z.string(),
  attnum: z.number().int(),
  declared: oid,
  type: z.string(),
  type_oid: oid,
  typmod: z.number().int(),
  nullable: z.boolean(),
  default: z.string().nullable(),
  generated: z.boolean(),
  missing: z.string().nullable(),
});
const identityShape = z.object({
  rel: oid,
  identity: z.enum(["d", "f", "i", "n"]),
  primary_key: names,
  identity_index: names,
});
const messageShape = z.union([
  z.object({
    v: z.literal(1),
    late: z.boolean(),
    relations: z.array(relationShape).readonly(),
    columns: z.array(columnShape).readonly(),
    identities: z.array(identityShape).readonly(),
  }),
  z.object({ v: z.literal(1), gone: z.array(z.object({ oid, dropped: z.boolean() })).readonly() }),
  z.object({ v: z.literal(1), rewritten: oid }),
  z.object({ v: z.literal(1), look: z.literal(true) }),
]);

/** Anybody may write messages, and a newer version others than these: what is none of them is a reason to look, never to stop. */
export function readDdlMessage(content: string): DdlMessage {
  try {
    const message = messageShape.parse(JSON.parse(content));
    if ("look" in message) return { kind: "look" };
    if ("rewritten" in message) return { kind: "rewritten", oid: Number(message.rewritten) };
    if ("gone" in message) return { kind: "gone", oids: message.gone.map((one) => ({ ...one, oid: Number(one.oid) })) };
    const { late, relations, columns, identities } = message;
    return { kind: "relations", late, rows: { relations, columns, identities } };
  } catch {
    return { kind: "look" };
  }
}

/** Messages that say of these relations what the trigger would, for where there is none. */
export function lateMessages(
  { relations, columns, identities }: CatalogRows,
  gone: readonly number[],
  there: ReadonlySet<number>,
): string[] {
  const trees = Map.groupBy(relations, ({ root_oid }) => root_oid);
  const messages = [...trees.values()].map((tree) => {
    const oids = new Set(tree.flatMap((row) => [row.oid, row.root_oid]));
    const ofTree = <Row extends { readonly rel: string }>(rows: readonly Row[]) => rows.filter(({ rel }) => oids.has(rel));
    return JSON.stringify({ v: 1, late: true, relations: tree, columns: ofTree(columns), identities: ofTree(identities) });
  });
  if (gone.length === 0) return messages;
  const oids = gone.map((one) => ({ oid: String(one), dropped: !there.has(one) }));
  return [...messages, JSON.stringify({ v: 1, late: true, gone: oids })];
}
