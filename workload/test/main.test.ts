import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { spawnChild } from "@cascade/local/child.ts";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { testPostgres } from "@cascade/local/servers.ts";
import { until } from "@cascade/local/wait.ts";
import { Client } from "pg";

const database = "workload_main";
const main = join(import.meta.dir, "../src/main.ts");
let url = "";

beforeAll(async () => {
  url = await (await testPostgres()).createDatabase(database);
  const client = new Client({ connectionString: url });
  await client.connect();
  await createDemoSchema(client);
  await client.end();
});
afterAll(async () => (await testPostgres()).dropDatabase(database));

const customers = async (): Promise<number> =>
  Number((await (await testPostgres()).query(database, "SELECT count(*) AS n FROM orders"))[0]?.["n"]);

test("writes by itself, goes on after its connection was cut, and ends when it is told to", async () => {
  const env = { ...process.env, WORKLOAD_DATABASE_URL: url, WORKLOAD_CHANGES_PER_SECOND: "500" };
  const child = spawnChild([process.execPath, main], { env });
  try {
    expect(await until(async () => (await customers()) > 5, 20_000)).toBe(true);
    await (await testPostgres()).query(
      database,
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cascade-workload'",
    );
    expect(await until(() => child.log().includes("does not take the workload"), 10_000)).toBe(true);
    const before = await customers();
    expect(await until(async () => (await customers()) > before + 5, 20_000)).toBe(true);
  } finally {
    expect(await child.stop("SIGTERM", 10_000)).toEqual({ code: 0, signal: null });
  }
});

test("says what it must be given", async () => {
  const child = spawnChild([process.execPath, main], { env: { PATH: process.env["PATH"], WORKLOAD_CHANGES_PER_SECOND: "0" } });
  expect(await child.exited).toEqual({ code: 78, signal: null });
  for (const name of ["WORKLOAD_DATABASE_URL", "WORKLOAD_CHANGES_PER_SECOND"]) expect(child.log()).toContain(name);
});
