import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgres } from "@cascade/local/postgres.ts";
import type { CdcStatus } from "@cascade/local/service-status.ts";
import { type Service, startCdc, startRouter } from "@cascade/local/stack.ts";
import { openPipeline, type Pipeline } from "./pipeline.ts";
import { expectNoSecret, type Finding, refusal, retrying } from "./refusals.ts";

/** What keeps a service from starting or stops it: it says all of it with the cure, and goes on where it was once that is applied. */

setDefaultTimeout(60_000);

const name = "bad_settings";
let pipeline: Pipeline;
let folder: string;

beforeAll(async () => {
  pipeline = await openPipeline({
    name,
    engines: ["postgres"],
    schema: (client) => client.query("CREATE TABLE fine (id serial PRIMARY KEY, v text)"),
  });
  folder = mkdtempSync(join(tmpdir(), "cascade-settings-"));
});
afterAll(async () => {
  await pipeline[Symbol.asyncDispose]();
  await pipeline.main.query("postgres", "DROP ROLE IF EXISTS bad_settings_role");
  rmSync(folder, { recursive: true, force: true });
});

const insert = (table = "fine"): Promise<unknown> => pipeline.sql(`INSERT INTO ${table} (v) VALUES ('r0w-value')`);
const codes = (findings: readonly Finding[]): readonly string[] => findings.map(({ code }) => code);
const text = (findings: readonly Finding[]): string => findings.map(({ msg, advice }) => `${msg} -> ${advice}`).join("\n");

/** The pipeline's URL of a database, with something else in its place. */
function changed(url: string, change: (url: URL) => void): string {
  const parsed = new URL(url);
  change(parsed);
  return parsed.href;
}

const replicaUrl = (): string => pipeline.replicaServer.url(name);

const wrongUrls: readonly (readonly [string, (url: string) => string, cdc: string, router: string])[] = [
  ["scheme", (url) => url.replace("postgres:", "oracle:").replace(":cascade@", ":pa55-w0rd@"), "CONFIGURATION", "CONFIGURATION"],
  [
    "password",
    (url) => changed(url, (of) => Object.assign(of, { password: "pa55-w0rd" })),
    "LOGIN_REFUSED",
    "REPLICA_LOGIN_REFUSED",
  ],
  [
    "database",
    (url) => changed(url, (of) => Object.assign(of, { pathname: "/nothing" })),
    "NO_SUCH_DATABASE",
    "REPLICA_LOGIN_REFUSED",
  ],
];

describe("environment", () => {
  test.each(wrongUrls)("a URL with a wrong %s", async (_what, wrong, cdcCode, routerCode) => {
    const cdc = await pipeline.cdc({ databaseUrl: wrong(pipeline.mainUrl) });
    const router = await pipeline.router("postgres", { replicaUrl: wrong(replicaUrl()) });
    const [ofCdc, ofRouter] = [await refusal(cdc), await refusal(router)];
    expect([codes(ofCdc), codes(ofRouter)]).toEqual([[cdcCode], [routerCode]]);
    expect(text(ofCdc)).toContain(cdcCode === "CONFIGURATION" ? "postgres://" : "CDC_DATABASE_URL");
    expect(text(ofRouter)).toContain(routerCode === "CONFIGURATION" ? "sqlite:///" : "REPLICA_URL");
  });

  test("a host that is away is waited for, and SIGTERM still ends it", async () => {
    const away = (url: string): string => changed(url, (of) => Object.assign(of, { port: "9", password: "pa55-w0rd" }));
    const cdc = await pipeline.cdc({ databaseUrl: away(pipeline.mainUrl) });
    const router = await pipeline.router("postgres", { replicaUrl: away(replicaUrl()) });
    await retrying(cdc, "MAIN_DB_AWAY");
    await retrying(router, "REPLICA_UNAVAILABLE");
    expect([await cdc.stop(), await router.stop()]).toEqual(Array(2).fill({ code: 0, signal: null }));
  });

  test("everything that is wrong is told at once, an unknown variable as a warning, a taken port with its number", async () => {
    const env = { CDC_MODE: "pull", CDC_BATCH_ROWS: "many", KAFKA_SASL_PASSWORD: "pa55-w0rd", HTTP_PORT: "70000" };
    const findings = await refusal(await pipeline.cdc({ env }));
    expect(codes(findings)).toEqual(Array(3).fill("CONFIGURATION"));
    for (const said of ["CDC_MODE", "`stream`, `poll`", "CDC_BATCH_ROWS", "HTTP_PORT"]) expect(text(findings)).toContain(said);
    const alone = { KAFKA_SASL_PASSWORD: "pa55-w0rd" };
    expect(text(await refusal(await pipeline.cdc({ env: alone })))).toContain("without KAFKA_SASL_MECHANISM");

    const first = await pipeline.cdc({ env: { CDC_TABELS: "pa55-w0rd" } });
    await first.ready();
    expect(first.log()).toContain("CDC_TABELS is no variable of this version of cdc: ignored");
    const port = new URL(first.httpUrl).port;
    const second = await refusal(await pipeline.router("postgres", { httpPort: Number(port) }));
    expect([codes(second), text(second)]).toEqual([["HTTP_PORT"], expect.stringContaining(`:${port} `)]);
    expectNoSecret(first.log());
    await first.stop();
  });

  test("an SQLite file that cannot be written", async () => {
    const url = `sqlite://${join(folder, "missing", "r.db")}`;
    const findings = await refusal(await startRouter({ brokers: pipeline.kafka.brokers, topicPrefix: name, replicaUrl: url }));
    expect([codes(findings), text(findings)]).toEqual([["REPLICA_CANNOT_OPEN"], expect.stringContaining("may write to it")]);
  });
});

describe("main-db", () => {
  test("wal_level and the role's right", async () => {
    await using server = await startPostgres({ dir: join(folder, "replica-level"), settings: { wal_level: "replica" } });
    const url = await server.createDatabase("low");
    await server.query("low", "CREATE ROLE plain LOGIN PASSWORD 'pa55-w0rd'; CREATE TABLE nokey (id int)");
    const as = changed(url, (of) => Object.assign(of, { username: "plain", password: "pa55-w0rd" }));
    const findings = await refusal(
      await startCdc({ brokers: pipeline.kafka.brokers, topicPrefix: `${name}_low`, databaseUrl: as }),
    );
    expect(codes(findings)).toEqual(["WAL_LEVEL", "MISSING_RIGHT", "NO_REPLICA_IDENTITY"]);
    expect(text(findings)).toContain("set wal_level = logical");
    expect(text(findings)).toContain("ALTER ROLE");
  });

  test("a role gets its right, and cdc starts", async () => {
    await pipeline.sql("CREATE ROLE bad_settings_role LOGIN PASSWORD 'pa55-w0rd'");
    const databaseUrl = changed(pipeline.mainUrl, (of) =>
      Object.assign(of, { username: "bad_settings_role", password: "pa55-w0rd" }),
    );
    expect(codes(await refusal(await pipeline.cdc({ databaseUrl })))).toEqual(["MISSING_RIGHT"]);
    await pipeline.sql("ALTER ROLE bad_settings_role REPLICATION");
    await starts({ databaseUrl });
  });

  test("a role that must look numbers up may read their tables, or no slot is made", async () => {
    const option = "SELECT FROM pg_logical_slot_peek_changes($1, '0/1', 1, 'numeric-data-types-as-string', '1')";
    const isNewer = await pipeline.sql(option, [name]).then(
      () => true,
      () => false,
    );
    if (isNewer) return; // wal2json 2.6 loses none
    await pipeline.sql(
      "CREATE TABLE measured (id serial PRIMARY KEY, v text, n float8 NOT NULL DEFAULT 'NaN', m numeric DEFAULT 'NaN')",
    );
    const databaseUrl = changed(pipeline.mainUrl, (of) =>
      Object.assign(of, { username: "bad_settings_role", password: "pa55-w0rd" }),
    );
    const slot = `${name}_numbers`;
    const env = { CDC_SNAPSHOT: "never" };
    const findings = await refusal(
      await startCdc({ brokers: pipeline.kafka.brokers, topicPrefix: slot, databaseUrl, slot, env }),
    );
    expect([codes(findings), text(findings)]).toEqual([
      ["MISSING_RIGHT"],
      expect.stringContaining('GRANT SELECT ON "public"."measured"'),
    ]);
    const slots = await pipeline.main.query("postgres", "SELECT FROM pg_replication_slots WHERE slot_name = $1", [slot]);
    expect(slots).toEqual([]);
    await pipeline.sql("GRANT SELECT ON measured TO bad_settings_role");
    await insert("measured");
    await starts({ databaseUrl });
  });

  test("tables without replica identity are all named; excluded, or mended, they no longer stop cdc", async () => {
    await pipeline.sql("CREATE TABLE one (id int, v text); CREATE TABLE two (v text)");
    const findings = await refusal(await pipeline.cdc());
    expect(codes(findings)).toEqual(["NO_REPLICA_IDENTITY", "NO_REPLICA_IDENTITY"]);
    for (const table of ["public.one", "public.two"]) expect(text(findings)).toContain(`updates and deletes of ${table} would`);
    await starts({ tables: "public.*,!public.one,!public.two" });
    for (const table of ["one", "two"]) await pipeline.sql(`ALTER TABLE ${table} REPLICA IDENTITY FULL`);
    await starts({});
  });

  test("a table without identity that appears: cdc ends with its name, and later misses none of its rows", async () => {
    const cdc = await pipeline.cdc();
    await cdc.ready();
    await pipeline.sql("CREATE TABLE late (v text)");
    await insert("late");
    const findings = await refusal(cdc);
    expect([codes(findings), text(findings)]).toEqual([
      ["NO_REPLICA_IDENTITY"],
      expect.stringContaining('TABLE "public"."late" '),
    ]);
    await insert();
    await pipeline.sql("ALTER TABLE late REPLICA IDENTITY FULL");
    await starts({});
  });

  test("a slot of another plugin", async () => {
    const slot = `${name}_other`;
    await pipeline.sql("SELECT pg_create_logical_replication_slot($1, 'test_decoding')", [slot]);
    const findings = await refusal(await pipeline.cdc({ slot }));
    expect([codes(findings), text(findings)]).toEqual([["FOREIGN_SLOT"], expect.stringContaining("CDC_SLOT")]);
  });

  test.each(["stream", "poll"])("a slot that another cdc holds is waited for: %s", async (mode) => {
    const first = await pipeline.cdc();
    await first.ready();
    const standby = await pipeline.cdc({ env: { CDC_MODE: mode } });
    await retrying(standby, "SLOT_ACTIVE");
    await insert();
    await first.kill();
    await standby.ready(20_000);
    await insert();
    await captures(standby);
    await standby.stop();
  });
});

test("in the end the replica has every row", async () => {
  const [cdc, router] = [await pipeline.cdc(), await pipeline.router("postgres")];
  await pipeline.expectEqual(15_000);
  for (const service of [cdc, router]) expectNoSecret(service.log() + JSON.stringify(await service.status()));
  await cdc.stop();
});

test("a slot that is gone after something was published is not made anew", async () => {
  await pipeline.sql("SELECT pg_drop_replication_slot($1)", [name]);
  const findings = await refusal(await pipeline.cdc());
  expect([codes(findings), text(findings)]).toEqual([["SLOT_LOST"], expect.stringContaining("CDC_ON_SLOT_LOST=resnapshot")]);
});

/** A cdc with these settings gets ready, publishes a new row, and stops when it is asked to. */
async function starts(settings: Parameters<Pipeline["cdc"]>[0]): Promise<void> {
  const cdc = await pipeline.cdc(settings);
  await cdc.ready(20_000);
  await insert();
  await captures(cdc);
  expect(await cdc.stop()).toEqual({ code: 0, signal: null });
  expectNoSecret(cdc.log());
}

async function captures(cdc: Service<CdcStatus>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while ((await cdc.status()).eventsTotal === 0) {
    if (performance.now() > deadline) throw new Error(`${cdc.name} captures nothing:\n${cdc.log()}`);
    await Bun.sleep(50);
  }
}
