import type { TableSchema } from "@cascade/shared/table-schema";
import { sqliteDialect } from "../src/dialects/sqlite.ts";
import type { Progress, RememberedTable } from "../src/replica.ts";
import type { SchemaPolicy } from "../src/schema-change.ts";
import { SchemaHistory } from "../src/schema-history.ts";
import { TableBook, type TableBookOptions } from "../src/table-book.ts";

/** A replica that remembers its tables and is told of changes, and has no rows. */
export function memoryReplica(progress: Progress | null = null) {
  const tables = new Map<number, RememberedTable>();
  const prepared: string[] = [];
  const changes: string[] = [];
  const replica: TableBookOptions["replica"] = {
    remembered: async (oids) => [...tables.values()].filter(({ oid }) => oids?.includes(oid) ?? true),
    prepare: async (source) => {
      prepared.push(source.id);
      return { source, sqlName: '"t"', columns: sqliteDialect.columnsOf(source), referenced: false };
    },
    change: async (all) => {
      for (const change of all) {
        const oid = change.kind === "create" ? change.schema.oid : change.from.oid;
        const { named } = change.kind === "create" || change.kind === "alter" || change.kind === "move" ? change : change.from;
        changes.push(`${change.kind} ${oid} as ${named.table}`);
        if (change.kind === "drop" || change.kind === "release") tables.delete(oid);
        else {
          const { schema, at } = change.kind === "move" || change.kind === "await" ? change.from : change;
          const awaiting = "awaiting" in change ? (change.awaiting ?? null) : (tables.get(oid)?.awaiting ?? null);
          tables.set(oid, { oid, schema, at, named, revision: (tables.get(oid)?.revision ?? 0) + 1, awaiting });
        }
      }
    },
    apply: async () => {},
    progress: async () => progress,
    progressOf: async () => new Map(progress === null ? [] : [[0, progress]]),
    held: async () => [],
  };
  return { replica, tables, prepared, changes };
}

export function tableBook(
  replica: TableBookOptions["replica"],
  options: Partial<TableBookOptions> & { readonly policy?: SchemaPolicy } = {},
): TableBook {
  return new TableBook({
    replica,
    policy: "apply",
    prefix: "cascade",
    history: new SchemaHistory(),
    matches: () => true,
    ends: async () => null,
    moved: () => {},
    changed: () => {},
    ...options,
  });
}

export function historyOf(...schemas: readonly (readonly [schema: TableSchema, commitLsn: bigint])[]): SchemaHistory {
  const history = new SchemaHistory();
  for (const [schema, commitLsn] of schemas)
    history.learn({ kind: "schema", schema, at: { commitLsn, ordinal: 0 }, rewritten: false });
  return history;
}
