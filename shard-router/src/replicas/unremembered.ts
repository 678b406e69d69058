import type { RememberedTable, Replica } from "../replica.ts";

/** For a replica that remembers nothing yet: its tables are used as they are, where they fit by name. */
export function unremembered(replica: Pick<Replica, "prepare" | "apply">): Pick<Replica, "remembered" | "change"> {
  const tables = new Map<number, RememberedTable>();
  return {
    remembered: async () => [...tables.values()],
    change: async (changes, advance) => {
      for (const change of changes) {
        if (change.kind !== "create" && change.kind !== "alter") continue;
        const { schema, at, named } = change;
        await replica.prepare(schema, change.kind === "create" && change.mayCreate, named);
        const revision = (tables.get(schema.oid)?.revision ?? 0) + 1;
        tables.set(schema.oid, { oid: schema.oid, schema, at, named, revision, awaiting: null });
      }
      await replica.apply({ statements: [], inOrder: () => [] }, advance);
    },
  };
}
