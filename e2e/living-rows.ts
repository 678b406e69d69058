import type { Random } from "@cascade/workload/random";
import pg from "pg";

/** A database that has run for years: keys of every kind, long texts out of line, partitions, a table without key. */
export const GROWN_SCHEMA = `
  CREATE TYPE size AS ENUM ('small', 'medium', 'large');
  CREATE SEQUENCE numbers START 1000000;
  CREATE TABLE items (id bigint PRIMARY KEY, name text NOT NULL, body text, qty integer);
  CREATE TABLE words (word text COLLATE "und-x-icu" PRIMARY KEY, body text, n integer);
  CREATE TABLE pairs (a uuid, b numeric, n integer, PRIMARY KEY (b, a));
  CREATE TABLE sizes (s size, day date, n double precision, PRIMARY KEY (s, day));
  CREATE TABLE parts (id bigint, region text, n integer, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
  CREATE TABLE parts_north PARTITION OF parts FOR VALUES IN ('north');
  CREATE TABLE parts_south (n integer, region text NOT NULL, id bigint NOT NULL, PRIMARY KEY (id, region));
  ALTER TABLE parts ATTACH PARTITION parts_south FOR VALUES IN ('south');
  CREATE TABLE lines (at timestamptz, line text);
  ALTER TABLE lines REPLICA IDENTITY FULL;
  CREATE TABLE nothing (id integer PRIMARY KEY);`;

/** Rows in each table, for `scale` 1 about 13,000 in all. */
export const grownRows = (scale: number): string => `
  INSERT INTO items SELECT n, 'item ' || n, CASE WHEN n % 40 = 0 THEN (SELECT string_agg(md5(n || ':' || i), '') FROM generate_series(1, 200) AS i) END, n % 7
    FROM generate_series(1, ${8000 * scale}) AS n;
  INSERT INTO words SELECT chr(97 + n % 26) || CASE n % 3 WHEN 0 THEN 'ä' WHEN 1 THEN 'Z' ELSE '-' END || n,
      CASE WHEN n % 30 = 0 THEN (SELECT string_agg(md5(n || ':' || i), '') FROM generate_series(1, 200) AS i) END, n FROM generate_series(1, ${1500 * scale}) AS n;
  INSERT INTO pairs SELECT md5(n::text)::uuid, CASE n % 3 WHEN 0 THEN (n % 97)::numeric / 4 ELSE (n % 97)::numeric(10,3) END, n FROM generate_series(1, ${1500 * scale}) AS n;
  INSERT INTO sizes SELECT s::size, date '2000-01-01' + n, CASE WHEN n % 20 = 0 THEN 'Infinity' ELSE n / 8.0 END
    FROM unnest(ARRAY['small', 'medium', 'large']) AS s, generate_series(1, ${200 * scale}) AS n;
  INSERT INTO parts SELECT n, CASE WHEN n % 2 = 0 THEN 'north' ELSE 'south' END, n FROM generate_series(1, ${1000 * scale}) AS n;
  INSERT INTO lines SELECT timestamptz '2024-01-01' + (n % 300) * interval '1 minute', 'line ' || n % 100 FROM generate_series(1, ${600 * scale}) AS n;`;

/** Resolves to whether main-db took it. */
export async function changeRows(client: pg.Client, random: Random): Promise<boolean> {
  const count = random.between(1, 3);
  try {
    await client.query(`BEGIN; ${Array.from({ length: count }, () => change(random)).join("; ")}; COMMIT`);
    return true;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || error.code?.startsWith("57") === true) throw error;
    await client.query("ROLLBACK");
    return false;
  }
}

function change(random: Random): string {
  const n = random.between(1, 8_000);
  const value = random.between(0, 1_000_000);
  const seventh = `% 97 = ${n % 97}`;
  return random.pick<() => string>([
    () => `INSERT INTO items VALUES (nextval('numbers'), 'new', repeat(md5('${value}'), ${random.pick([1, 300])}), ${value})`,
    () => `UPDATE items SET qty = ${value} WHERE id BETWEEN ${n} AND ${n + random.between(0, 50)}`,
    () => `UPDATE items SET body = ${random.pick(["NULL", `'${random.hex(6_000)}'`])} WHERE id = ${n}`,
    // To a place before and after whatever has been copied, without the long text that did not change.
    () => `UPDATE items SET id = -nextval('numbers'), qty = ${value} WHERE id = ${n - (n % 40)}`,
    () => `UPDATE items SET id = nextval('numbers'), qty = ${value} WHERE id = ${n - (n % 40)}`,
    () => `DELETE FROM items WHERE id BETWEEN ${n} AND ${n + random.between(0, 5)}`,
    () => `UPDATE words SET n = ${value} WHERE n ${seventh}`,
    () => `UPDATE words SET word = 'moved ' || nextval('numbers') WHERE n = ${n % 1500}`,
    () => `DELETE FROM words WHERE n = ${n % 1500}`,
    () => `UPDATE pairs SET n = ${value} WHERE n ${seventh}`,
    () => `UPDATE pairs SET b = b + 1 WHERE n = ${n % 1500}`,
    () => `INSERT INTO pairs VALUES (gen_random_uuid(), ${value}, ${value})`,
    () => `UPDATE sizes SET n = ${value} WHERE day = date '2000-01-01' + ${n % 200}`,
    () => `DELETE FROM sizes WHERE s = 'medium' AND day = date '2000-01-01' + ${n % 200}`,
    () => `UPDATE parts SET n = ${value} WHERE id % 31 = ${n % 31}`,
    () => `UPDATE parts SET region = ${random.pick(["'north'", "'south'"])} WHERE id = ${n % 1000}`,
    () => `DELETE FROM parts WHERE id = ${n % 1000}`,
    () => `INSERT INTO lines VALUES (now(), 'line ${n % 100}')`,
    () => `UPDATE lines SET line = 'changed ${value}' WHERE line = 'line ${n % 100}' AND random() < 0.3`,
    () => `DELETE FROM lines WHERE line = 'line ${n % 100}' AND random() < 0.2`,
  ])();
}
