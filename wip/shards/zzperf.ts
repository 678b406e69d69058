import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { Ownership } from "./ownership.ts";
import { parseShardRules } from "./shard-rules.ts";
import { toMutations } from "./mutation.ts";
const event = (op: any, before: any, after: any): any => ({ op, before, after, schemaId: "", committedAtMs: 0, commitLsn: 1n, ordinal: 0, marks: null });
const N = 200_000;
const S = tableSchema("o", { id: "bigint", tenant: "text", a: "text", n: "integer" }), F = tableSchema("o", { id: "bigint", tenant: "text", a: "text", n: "integer" }, { identity: "full" });
const row = (i: number) => ({ id: String(i), tenant: "t" + (i % 1000), a: "hello", n: i });
const sets: [string, any, string | null, any[]][] = [
 ["insert by pk", S, null, Array.from({length:N},(_,i)=>event("c",null,row(i)))],
 ["update default by pk", S, null, Array.from({length:N},(_,i)=>event("u",{id:String(i)},row(i)))],
 ["update default by tenant", S, "public.o=tenant", Array.from({length:N},(_,i)=>event("u",{id:String(i)},row(i)))],
 ["update full by tenant", F, "public.o=tenant", Array.from({length:N},(_,i)=>event("u",row(i),row(i)))],
 ["insert list", S, "public.o=tenant:t1|t2|t3", Array.from({length:N},(_,i)=>event("c",null,row(i)))],
 ["insert range", S, "public.o=id:1..1000", Array.from({length:N},(_,i)=>event("c",null,row(i)))],
];
for (let round = 0; round < 2; round++) for (const [name, schema, rules, evs] of sets) {
  const share = new Ownership({index:0,count:4}, rules ? parseShardRules(rules) : null).of(schema)!;
  let t = performance.now(); const mine = evs.filter(e => share.concerns(e)); const a = performance.now() - t;
  t = performance.now(); const here = mine.map(e => share.here(e)); const b = performance.now() - t;
  t = performance.now(); toMutations(schema, here); const c = performance.now() - t;
  if (round) console.log(name, "concerns ns/event", Math.round(a*1e6/N), "here ns/kept", Math.round(b*1e6/Math.max(1,mine.length)), "kept", mine.length, "toMutations ns/kept", Math.round(c*1e6/Math.max(1,mine.length)));
}
