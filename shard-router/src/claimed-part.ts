import { Ownership } from "./ownership.ts";
import { parseShard, parseShardRules, type Shard, type ShardRules } from "./shard-rules.ts";

/** Reads what a replica remembers of its part (Ownership.text). Throws SyntaxError where another version wrote it. */
export function readClaim(text: string): Ownership {
  const match = /^(\d{1,4}\/\d{1,4})?(?:\s+|$)?(.*)$/s.exec(text);
  const [, shard = "", rules = ""] = match ?? [];
  return new Ownership(shard === "" ? null : parseShard(shard), rules === "" ? null : parseShardRules(rules));
}

/** As a router is told it, for people: ROUTER_SHARD=0/4 ROUTER_SHARD_KEYS=... */
export function settingsOf({ shard, rules }: { readonly shard: Shard | null; readonly rules: ShardRules | null }): string {
  const settings = [
    ...(shard === null ? [] : [`ROUTER_SHARD=${shard.index}/${shard.count}`]),
    ...(rules === null ? [] : [`ROUTER_SHARD_KEYS='${rules.text.replaceAll("'", `'\\''`)}'`]),
  ];
  return settings.length === 0 ? "neither ROUTER_SHARD nor ROUTER_SHARD_KEYS" : settings.join(" ");
}
