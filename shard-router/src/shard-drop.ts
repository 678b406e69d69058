import { CascadeError, FencedError } from "@cascade/shared/errors";
import type { TableSchema } from "@cascade/shared/table-schema";
import { formatTableName } from "@cascade/shared/topic";
import { type PartRow, PartRows } from "./dialects/part-rows.ts";
import type { Ownership, TableShare } from "./ownership.ts";
import type { RememberedTable, Replica } from "./replica.ts";

export interface DropPorts {
  readonly replica: Pick<Replica, "dialect" | "parts" | "remembered" | "prepare" | "settle">;
  readonly pageRows: number;
  /** What is the replica's, asked for each look at a table: a router may bring rules that say the same of the tables there are, and fill a new one. */
  part(): Promise<Ownership>;
  /** Tries again while a running router is in the way. */
  retried<T>(attempt: () => Promise<T>): Promise<T>;
  /** So many rows are gone. */
  dropped(count: number, table: TableSchema): void;
}

/** Each look begins anew after a change of the table. */
const MAX_FENCED = 100;

/**
 * Drops the table's rows that are not the replica's. A router that goes by these rules may write meanwhile: what it writes is the
 * replica's own. Resolves to the table as it was looked at; null where there is nothing to look for.
 */
export async function dropForeign(ports: DropPorts, oid: number, from: Ownership): Promise<TableSchema | null> {
  for (let fenced = 0; ; fenced++) {
    const [table] = await ports.retried(() => ports.replica.remembered([oid]));
    if (table === undefined) return null;
    // After the table: other rules are taken with another revision of it, and what was looked at is fenced.
    const share = (await ports.part()).of(table.schema);
    if (share === null) return null;
    // What could not be divided by the rules from before had no rows by them.
    const before = from.signatureOf(table.schema) === null ? null : from.of(table.schema);
    try {
      await dropPages(ports, table, { share, before });
      return table.schema;
    } catch (error) {
      if (!(error instanceof FencedError) || fenced >= MAX_FENCED) throw error;
    }
  }
}

interface Shares {
  readonly share: TableShare;
  /** null: all of it. */
  readonly before: TableShare | null;
}

async function dropPages(ports: DropPorts, table: RememberedTable, { share, before }: Shares): Promise<void> {
  const { replica, pageRows, retried } = ports;
  const { schema, named, revision } = table;
  const prepared = await retried(() => replica.prepare(schema, false, named, revision));
  const rows = new PartRows(replica.dialect.name, prepared, share.columns);
  for (let after: PartRow | null = null; ; ) {
    const query = rows.page(after, pageRows);
    const page: readonly PartRow[] = (await retried(() => replica.parts.rows(query))).map((found) => rows.read(found));
    // It was one part of main-db: what was never in that cannot be told from what is read wrongly.
    if (before !== null && page.some(({ wire }) => !before.owns(wire))) throw strayRows(schema, share);
    const foreign = page.filter(({ wire }) => !share.owns(wire));
    if (foreign.length > 0) {
      const statements = rows.drop(foreign);
      // A table that was changed meanwhile is looked at anew, by what it is now.
      await retried(() => replica.settle({ statements, inOrder: () => statements, tables: [table], holds: [] }, NOWHERE));
      ports.dropped(
        foreign.reduce((sum, { count }) => sum + count, 0),
        schema,
      );
    }
    if (page.length < pageRows) return;
    after = page.at(-1) ?? null;
  }
}

/** What the rows are of is not a topic's. */
export const NOWHERE = { topic: "reshard", partition: 0 };

function strayRows(schema: TableSchema, { columns }: TableShare): CascadeError {
  const table = formatTableName(schema);
  return new CascadeError({
    code: "RESHARD_STRAY_ROWS",
    verdict: "fatal",
    message: `${table} has rows that were not this replica's before either, by ${columns.join(", ")}: nobody can tell whose they are, and no more of the table is dropped`,
    advice: `look for them by the SQL of docs/sharding.md, delete from the replica those that somebody else has put there, and run the command again; or fill new replicas for all parts`,
  });
}
