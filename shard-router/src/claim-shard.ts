import { CascadeError } from "@cascade/shared/errors";
import type { Ownership } from "./ownership.ts";
import type { Replica } from "./replica.ts";

/**
 * A replica holds one part of main-db, the same for ever: with other rules rows would stay that are not its own, and its own would be
 * missing. Throws CascadeError SHARD_CHANGED (refuse).
 */
export async function claimShard(replica: Pick<Replica, "claim">, ownership: Ownership): Promise<void> {
  const wanted = ownership.text;
  const remembered = await replica.claim(wanted);
  if (remembered === wanted) return;
  throw new CascadeError({
    code: "SHARD_CHANGED",
    verdict: "refuse",
    message: `the replica holds ${partOf(remembered)}, and ROUTER_SHARD and ROUTER_SHARD_KEYS say ${partOf(wanted)}`,
    advice:
      "set them as they were, or give the other part a replica of its own: another database, another REPLICA_NAME; to make its part smaller while main-db is written to, run first: bun run --cwd shard-router reshard -- --help (docs/sharding.md, Divide anew)",
  });
}

const partOf = (text: string): string => (text === "" ? "all of main-db" : `the part "${text}"`);
