import { tableSchema } from "@cascade/shared/testing/table-schemas";
import { Ownership } from "./ownership.ts";
import { parseShardRules } from "./shard-rules.ts";
const o = new Ownership({index:0,count:2}, parseShardRules("public.*=tenant"));
o.of(tableSchema("a",{id:"integer",tenant:"integer",x:"numeric"})); console.log(o.findings());
o.of(tableSchema("b",{id:"integer",tenant:"text"})); console.log(o.findings()[1]);
console.log(JSON.stringify([new Ownership({index:0,count:2}, parseShardRules("public.a=x, public.b=y")).text, new Ownership({index:0,count:2}, parseShardRules("public.a=x,public.b=y")).text, new Ownership({index:0,count:1}, null).text]));
