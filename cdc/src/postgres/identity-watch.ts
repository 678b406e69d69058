import type { CascadeError } from "@cascade/shared/errors";
import { RefusalError } from "@cascade/shared/settings";
import { formatTableName } from "@cascade/shared/topic";
import type { Relation } from "./catalog.ts";
import { missingIdentity } from "./identity.ts";

/**
 * Makes a check that rejects (verdict refuse) with every table that had a replica identity at an earlier look and has none now: its
 * updates and deletes no longer reach the slot, and nothing that does would tell. A table that never had one is told of by its first row.
 */
export function identityWatch(look: () => Promise<readonly Relation[]>): () => Promise<void> {
  const identified = new Set<string>();
  return async () => {
    const lost: CascadeError[] = [];
    for (const relation of await look()) {
      const name = formatTableName(relation.name);
      const missing = missingIdentity(relation, { changesMayBeLost: true });
      if (missing === null) identified.add(name);
      else if (identified.has(name)) lost.push(missing);
    }
    if (lost.length > 0) throw new RefusalError(lost);
  };
}
