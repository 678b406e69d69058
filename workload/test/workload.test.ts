import { afterAll, beforeAll, expect, test } from "bun:test";
import { createDemoSchema } from "@cascade/local/demo-schema.ts";
import { testPostgres } from "@cascade/local/servers.ts";
import { Client } from "pg";
import { runWorkload } from "../src/workload.ts";

const database = "workload";
const clients: Client[] = [];
let url = "";

async function connect(): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  clients.push(client);
  return client;
}

beforeAll(async () => {
  url = await (await testPostgres()).createDatabase(database);
  await createDemoSchema(await connect());
});
afterAll(async () => {
  for (const client of clients) await client.end();
  await (await testPostgres()).dropDatabase(database);
});

interface WalCounts {
  readonly changes: number;
  readonly actions: Readonly<Record<string, number>>;
}

/** What the slot has to tell, by wal2json's action. */
async function walCounts(slot: string): Promise<WalCounts> {
  const rows = await (await testPostgres()).query(
    database,
    `SELECT data::json->>'action' AS action, count(*)::int AS changes FROM pg_logical_slot_get_changes('${slot}', NULL, NULL, 'format-version', '2') GROUP BY 1`,
  );
  const actions = Object.fromEntries(rows.map((row) => [String(row["action"]), Number(row["changes"])]));
  const changes = ["I", "U", "D", "T"].reduce((sum, action) => sum + (actions[action] ?? 0), 0);
  return { changes, actions };
}

test("counts exactly what it commits, keeps its pace, and goes on with the rows that are there", async () => {
  const slot = "workload_counts";
  await (await testPostgres()).query(database, `SELECT pg_create_logical_replication_slot('${slot}', 'wal2json')`);
  const pair = [await connect(), await connect()];
  for (const seed of [1, 1]) {
    const started = performance.now();
    const done = await runWorkload(pair, { seed, changesPerSecond: 600, signal: AbortSignal.timeout(1_500) });
    const seconds = (performance.now() - started) / 1000;
    expect(done.changes / seconds).toBeWithin(500, 700);
    const { changes, actions } = await walCounts(slot);
    expect(changes).toBe(done.changes);
    expect(Object.keys(actions)).toContain("D");
  }
});

test("leaves long texts unsent and changes keys", async () => {
  const slot = "workload_kinds";
  await (await testPostgres()).query(database, `SELECT pg_create_logical_replication_slot('${slot}', 'wal2json')`);
  await runWorkload(await connect(), { seed: 3, changesPerSecond: 3_000, signal: AbortSignal.timeout(1_500) });
  const rows = await (await testPostgres()).query(
    database,
    `SELECT data::json AS data FROM pg_logical_slot_get_changes('${slot}', NULL, NULL, 'format-version', '2', 'include-types', '0')`,
  );
  const updates = rows.map((row) => row["data"] as Update).filter((change) => change.action === "U");
  const products = updates.filter((change) => change.table === "products");
  const lacks = (change: Update, column: string): boolean => !change.columns.some(({ name }) => name === column);
  const columnValue = (columns: Update["columns"], column: string): unknown => columns.find(({ name }) => name === column)?.value;
  const renamed = products.filter((change) => columnValue(change.columns, "sku") !== columnValue(change.identity, "sku"));
  expect(products.some((change) => lacks(change, "description"))).toBe(true);
  expect(products.some((change) => !lacks(change, "description"))).toBe(true);
  expect(renamed.some((change) => lacks(change, "description"))).toBe(true);
});

interface Update {
  readonly action: string;
  readonly table: string;
  readonly columns: readonly { readonly name: string; readonly value: unknown }[];
  readonly identity: readonly { readonly name: string; readonly value: unknown }[];
}
