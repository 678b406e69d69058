import { expect, test } from "bun:test";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { Ownership, shardOf } from "./ownership.ts";
import { parseShardRules } from "./shard-rules.ts";
import { toMutations } from "./mutation.ts";
const event = (op: any, before: any, after: any, marks: any = null): any => ({ op, before, after, schemaId: "", committedAtMs: 0, commitLsn: 1n, ordinal: 0, marks });
const S = tableSchema("o", { id: "integer", region: "text", note: "text" });
const run = (rules: string|null, schema: any, evs: any[], shard: any = null) => { const s = new Ownership(shard, rules ? parseShardRules(rules) : null).of(schema)!; const m = evs.filter(e => s.concerns(e)).map(e => s.here(e)); return toMutations(schema, m); };
test("toast key list", () => {
  console.log("A list, unchanged TOASTed key:", JSON.stringify(run("public.o=region:eu", S, [event("u", {id:1}, {id:1, note:"x"})])));
});
test("toast key hash", () => {
  for (const i of [0,1]) console.log("B hash shard", i, "owner of 'eu' is", shardOf("eu",2), "of '' is", shardOf("",2), JSON.stringify(run("public.o=region", S, [event("u", {id:1}, {id:1, note:"x"})], {index:i,count:2})));
});
test("filling move-in", () => {
  for (const i of [0,1]) console.log("C filling shard", i, "owner of 'eu'", shardOf("eu",2), JSON.stringify(run("public.o=region", S, [event("u", {id:1}, {id:1, region:"eu"}, {replica:null, notReplica:null, snapshotId:null, filling:true})], {index:i,count:2})));
});
test("constructor", () => {
  const T = tableSchema("o", { id: "integer", constructor: "text" } as any);
  const vals = ["a","b","c","d"]; const a = vals.find(v=>shardOf(v,2)===0)!, b = vals.find(v=>shardOf(v,2)===1)!;
  for (const i of [0,1]) console.log("D constructor a->b shard", i, JSON.stringify(run("public.o=constructor", T, [event("c",null,{id:1,constructor:a}), event("u", {id:1}, {id:1, constructor:b})], {index:i,count:2})), "delete", JSON.stringify(run("public.o=constructor", T, [event("d",{id:1},null)], {index:i,count:2})));
});
test("pk change", () => {
  const V1 = tableSchema("o", { id: "integer", code: "text" });
  const V2 = tableSchema("o", { id: "integer", code: "text" }, {key:["code"]});
  for (const i of [0,1]) { const o = new Ownership({index:i,count:2}, null); const a = o.of(V1)!, b = o.of(V2)!;
   const row = [...Array(50).keys()].map(n=>({id:n,code:"c"+n})).find(r=>shardOf(String(r.id),2)===0 && shardOf(r.code,2)===1)!;
   const c = event("c",null,row), u = event("u",{code:row.code},row);
   console.log("E pk change shard", i, "insert under v1:", a.concerns(c), "update under v2:", b.concerns(u), b.concerns(u)&&JSON.stringify(b.here(u)), "delete under v2:", b.concerns(event("d",{code:row.code},null))); }
});
test("numeric->text type", () => {
  const V1 = tableSchema("o", { id: "numeric" }); const V2 = tableSchema("o", { id: "text" });
  let diff=0; for (let n=0;n<50;n++){ const r={id:n+".50"}; const o=new Ownership({index:0,count:2},null); if(o.of(V1)!.concerns(event("c",null,r))!==o.of(V2)!.concerns(event("c",null,r))) diff++; }
  console.log("F numeric->text moved", diff, "of 50");
});
test("rename", () => {
  const V1 = tableSchema("a", { id: "integer", t: "text" }); const V2 = tableSchema("b", { id: "integer", t: "text" });
  const o = new Ownership({index:0,count:2}, parseShardRules("public.a=*,public.b=id"));
  console.log("G rename: before", o.of(V1), "after", o.of(V2)?.columns);
});
test("parse", () => {
  const p = (t: string) => { try { return JSON.stringify(parseShardRules(t).rules.map(r=>[r.tables.text,r.rule])); } catch (e) { return "ERR "+(e as Error).message; } };
  for (const t of ["public.t=on:2026-01-01 .. 2026-02-01","public.t=id: 1 .. 5","public.t=a\",public.u=c","public.t=id..5","public.t=on:yesterday..","public.t=region:\"a\"b|c","public.t=id:9..1","public.t=id:1..2|3","public.t=region:a=b","public.\"x=y\"=id","public.\"a.b:c\"=id","public.t=a:b:c","public.t=id:-5..-1","public.t=region:..|x","public.t=id+id","public.t=\"\"","public.a|public.b=id","public.t=region :eu","public.t=region: \"eu\"","public.t=a+*", "public.t=region:eu..", "public.t=\"a\"\"b\":\"x..y\"..\"z\""]) console.log("P", t, "=>", p(t));
  const W = tableSchema("t", { id: "integer", on: "date", at: "timestamp without time zone" } as any);
  const owns = (r: string, row: any) => { try { return new Ownership(null, parseShardRules(r)).of(W)!.concerns(event("c", null, {id:1,on:null,at:null,...row})); } catch (e) { return "ERR "+(e as Error).message; } };
  console.log("R spaces", owns("public.t=on:2026-01-01 .. 2026-02-01",{on:"2026-01-15"}), owns("public.t=on:2026-01-01 .. 2026-02-01",{on:"2026-01-01"}), "id spaces", owns("public.t=id: 1 .. 5",{}));
  console.log("R garbage bounds", owns("public.t=on:yesterday..",{on:"2026-01-15"}), owns("public.t=on:..31.12.2026",{on:"2026-01-15"}), owns("public.t=on:2026-1-1..2026-12-31",{on:"2026-01-15"}));
  console.log("R timestamp", owns("public.t=at:..2026-02-01",{at:"2026-02-01 00:00:00"}), owns("public.t=at:..2026-02-01T00:00:00",{at:"2026-01-31 23:00:00"}), owns("public.t=at:2026-01-31T12:00:00..",{at:"2026-01-31 13:00:00"}), owns("public.t=on:2000-01-01..",{on:"0044-03-15 BC"}), owns("public.t=on:0001-01-01..",{on:"0044-03-15 BC"}));
});
