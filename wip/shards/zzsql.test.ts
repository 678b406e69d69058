import { setDefaultTimeout, test } from "bun:test";
import { testMariadb, testPostgres } from "@cascade/local/servers.ts";
import { DuckDBInstance } from "@duckdb/node-api";
import { shardOf } from "./ownership.ts";
import { ShardRow } from "./replicas/shard-row.ts";
import { openMysqlReplica } from "./replicas/mysql.ts";
import { openPostgresReplica } from "./replicas/postgres.ts";
setDefaultTimeout(200_000);
const say = (...a: unknown[]) => console.log("ZS", ...a);
test("sql", async () => {
  const pg = await testPostgres(); const url = await pg.createDatabase("zzsql");
  const q = async (t: string) => (await pg.query("zzsql", t))[0] as any;
  const wire: [string, string][] = [["7::int","7"],["-9007199254740993::bigint","-9007199254740993"],["true","true"],["'é😀'::text","é😀"],["1.50::numeric(10,2)","1.5"],["100::numeric","100"],["'2026-01-02'::date","2026-01-02"],["'2026-01-02 03:04:05.120'::timestamp","2026-01-02 03:04:05.12"],["'2026-01-02 03:04:05+00'::timestamptz","2026-01-02 03:04:05+00"],["'10.0.0.1'::inet","10.0.0.1"],["'\\x00ff'::bytea","AP8="],["'10.0.0.0/8'::cidr","10.0.0.0/8"],["'a'::\"char\"","a"]];
  for (const [sql, text] of wire) { const r = await q(`SELECT ('x' || left(md5((${sql})::text), 8))::bit(32)::bigint % 7 AS n, (${sql})::text AS t`); say(sql, "pg", r.n, JSON.stringify(r.t), "ours", shardOf(text, 7), String(r.n) === String(shardOf(text,7)) ? "" : "DIFFERENT"); }
  const d = await (await DuckDBInstance.create(":memory:")).connect();
  for (const t of ["7", "-9007199254740993", "123456", "99"]) { try { const r = await d.runAndReadAll(`SELECT ('0x' || left(md5((${t})::BIGINT::VARCHAR), 8))::BIGINT % 7 AS n`); say("duckdb", t, String(r.getRows()[0]), shardOf(t, 7)); } catch (e) { say("duckdb ERR", (e as Error).message.slice(0, 200)); } }
  for (const t of ["true", "1.50::DECIMAL(10,2)", "'2026-01-02 03:04:05.120'::TIMESTAMP"]) { const r = await d.runAndReadAll(`SELECT (${t})::VARCHAR`); say("duckdb text", t, String(r.getRows()[0])); }
  const m = await testMariadb();
  if (m) { const murl = await m.createDatabase("zzsql"); 
    for (const t of ["7", "-9007199254740993", "'é😀'"]) say("mariadb", t, JSON.stringify(await m.query("zzsql", `SELECT CONV(LEFT(MD5(${t}), 8), 16, 10) % 7 AS n`)), shardOf(t.replaceAll("'", ""), 7));
    await m.query("zzsql", "CREATE TABLE b (x BOOLEAN, d DECIMAL(10,2), ts DATETIME(6))"); await m.query("zzsql", "INSERT INTO b VALUES (TRUE, 1.50, '2026-01-02 03:04:05.12')");
    say("mariadb texts", JSON.stringify(await m.query("zzsql", "SELECT CONCAT(x) x, CONCAT(d) d, CONCAT(ts) ts FROM b")));
    // races: 6 routers at once on a new replica
    const rs = await Promise.allSettled(Array.from({ length: 6 }, () => openMysqlReplica(murl)));
    say("mariadb opens", rs.map((r) => r.status === "fulfilled" ? "ok" : String(r.reason.message)).join(" | "));
    const ok = rs.flatMap((r) => r.status === "fulfilled" ? [r.value] : []);
    say("mariadb claims", JSON.stringify((await Promise.allSettled(ok.map((r, i) => r.claim(i % 2 ? "1/2" : "0/2")))).map((r) => r.status === "fulfilled" ? r.value : String(r.reason))));
    // upgrade: own tables of an older version
    await m.query("zzsql", "DROP TABLE cascade_shard"); await m.query("zzsql", "INSERT INTO cascade_progress (topic, `partition`, next_offset, commit_lsn, ordinal, source_committed_at, applied_at) VALUES ('t',0,1,'0/1',0,NOW(),NOW())").catch((e) => say("ins", e.message));
    const up = await Promise.allSettled(Array.from({ length: 4 }, () => openMysqlReplica(murl)));
    say("mariadb upgrade", JSON.stringify(await Promise.all(up.map(async (r) => r.status === "fulfilled" ? r.value.claim("0/2") : String(r.reason.message)))));
    for (const r of [...rs, ...up]) if (r.status === "fulfilled") await r.value[Symbol.asyncDispose]();
    await m.dropDatabase("zzsql");
  }
  const purl = await pg.createDatabase("zzrep");
  const ps = await Promise.allSettled(Array.from({ length: 6 }, () => openPostgresReplica(purl)));
  say("pg opens", ps.map((r) => r.status === "fulfilled" ? "ok" : String(r.reason.message)).join(" | "));
  say("pg claims", JSON.stringify((await Promise.allSettled(ps.flatMap((r) => r.status === "fulfilled" ? [r.value] : []).map((r, i) => r.claim(i % 2 ? "1/2" : "0/2")))).map((r) => r.status === "fulfilled" ? r.value : String(r.reason))));
  for (const r of ps) if (r.status === "fulfilled") await r.value[Symbol.asyncDispose]();
  // a role that may not create in schema cascade, a replica of an older version
  await pg.query("zzrep", "DROP TABLE cascade.shard"); await pg.query("zzrep", "DROP ROLE IF EXISTS low; CREATE ROLE low LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA cascade TO low; GRANT ALL ON ALL TABLES IN SCHEMA cascade TO low").catch((e) => say(e.message));
  const low = new URL(purl); low.username = "low"; low.password = "x";
  const lr = await openPostgresReplica(low.href).catch((e) => e); say("pg low role", lr?.code, lr?.message, "|", lr?.advice);
  if (lr?.[Symbol.asyncDispose]) await lr[Symbol.asyncDispose]();
  // table there, but no INSERT right (DBA made it as asked, SELECT only)
  await pg.query("zzrep", "CREATE TABLE cascade.shard (one int primary key, shard text not null)"); await pg.query("zzrep", "GRANT SELECT ON cascade.shard TO low");
  const l2 = await openPostgresReplica(low.href).catch((e) => e); const c2 = l2.claim ? await l2.claim("").catch((e: any) => e) : l2; say("pg select only", c2?.code, c2?.message, "|", c2?.advice);
  if (l2?.[Symbol.asyncDispose]) await l2[Symbol.asyncDispose]();
  await pg.dropDatabase("zzsql"); await pg.dropDatabase("zzrep");
});
