import type { Replica } from "../replica.ts";

/** For a replica that remembers nothing yet: its tables are used as they are, where they fit by name. */
export function unremembered(replica: Pick<Replica, "prepare" | "apply">): Pick<Replica, "remembered" | "change"> {
  return {
    remembered: async () => [],
    change: async (changes, advance) => {
      for (const change of changes) {
        if (change.kind === "create") await replica.prepare(change.schema, change.mayCreate, change.named);
        else if (change.kind === "alter") await replica.prepare(change.schema, false, change.named);
      }
      await replica.apply({ statements: [], inOrder: () => [] }, advance);
    },
  };
}
