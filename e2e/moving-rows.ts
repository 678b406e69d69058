import type { Random } from "@cascade/workload/random";
import type { Client } from "pg";
import { type Repeated, repeat } from "./reconnecting.ts";

/**
 * Tables whose rows change their keys: with a value that is stored out of line and an update does not send, with all of the old row in the WAL, with a
 * key of two columns, with a key whose values look different and are equal; and one without a key. All are emptied now and then.
 */
export const MOVING_SCHEMA = `
  CREATE TABLE heavy (id int PRIMARY KEY, region text, note text); ALTER TABLE heavy ALTER COLUMN note SET STORAGE EXTERNAL;
  CREATE TABLE told (id int PRIMARY KEY, region text, note text); ALTER TABLE told ALTER COLUMN note SET STORAGE EXTERNAL;
  ALTER TABLE told REPLICA IDENTITY FULL;
  CREATE TABLE pairs (a int, b text, n int, PRIMARY KEY (a, b));
  CREATE TABLE amounts (amount numeric PRIMARY KEY, n int);
  CREATE TABLE entries (n int, region text); ALTER TABLE entries REPLICA IDENTITY FULL;
  INSERT INTO heavy SELECT n, 'eu', repeat('y', 3000) FROM generate_series(1, 150) AS n;
  INSERT INTO told SELECT n, 'eu', repeat('y', 3000) FROM generate_series(1, 150) AS n;`;

const REGIONS = ["eu", "uk", "us", "jp", "br", "in"] as const;
const IDS = 200;

const FREE = (table: string): string =>
  `UPDATE ${table} SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM ${table} other WHERE other.id = $2)`;

/** One change after the other, each a transaction. */
export const startMoving = (url: string, random: Random): Repeated =>
  repeat(url, (client) => async () => {
    await move(client, random);
    return true;
  });

async function move(client: Client, random: Random): Promise<void> {
  const [id, other] = [random.between(1, IDS), random.between(1, IDS)];
  const region = random.pick(REGIONS);
  for (const table of ["heavy", "told"] as const) {
    const note = random.chance(0.5) ? "repeat('x', 3000)" : "'short'";
    await client.query(
      `INSERT INTO ${table} (id, region, note) VALUES ($1, $2, ${note}) ON CONFLICT (id) DO UPDATE SET region = excluded.region`,
      [id, region],
    );
    if (random.chance(0.3)) await client.query(FREE(table), [id, other]);
    if (random.chance(0.1)) await client.query(`DELETE FROM ${table} WHERE id = $1`, [other]);
  }
  await client.query("INSERT INTO pairs VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [id, region, other]);
  if (random.chance(0.3))
    await client.query(
      "UPDATE pairs SET b = $2 WHERE (a, b) = (SELECT a, b FROM pairs WHERE a = $1 LIMIT 1) AND NOT EXISTS (SELECT FROM pairs p WHERE p.a = $1 AND p.b = $2)",
      [other, region],
    );
  // 1.0 and 1.00 are one key.
  await client.query(
    "INSERT INTO amounts VALUES ($1, $2) ON CONFLICT (amount) DO UPDATE SET amount = excluded.amount, n = excluded.n",
    [`${id % 20}.${"0".repeat(random.between(1, 3))}`, other],
  );
  if (random.chance(0.2)) await client.query("DELETE FROM amounts WHERE amount = $1", [String(other % 20)]);
  await client.query("INSERT INTO entries VALUES ($1, $2)", [id, region]);
  if (random.chance(0.02)) await client.query(`TRUNCATE ${random.pick(["heavy", "told", "pairs", "amounts", "entries"])}`);
  if (random.chance(0.01)) await client.query("TRUNCATE heavy, told");
}
