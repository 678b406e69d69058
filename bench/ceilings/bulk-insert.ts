import { Database } from "bun:sqlite";
import { DuckDBInstance } from "@duckdb/node-api";
import { createConnection } from "mariadb";
import { Client } from "pg";
import type { Engine } from "../lab.ts";
import type { Ceiling } from "./ceiling.ts";
import { type BenchRow, benchRows } from "./rows.ts";

const ROWS_AT_ONCE = 10_000;

interface Bulk extends AsyncDisposable {
  /** One transaction. */
  insert(rows: readonly BenchRow[]): Promise<void>;
  count(): Promise<number>;
}

/** Rows into an empty table of the replica's kind by the fastest statement that its engine has for many at once, upserts as a replica's must be. */
export async function bulkInsert(engine: Engine, url: string, rows: number): Promise<Ceiling> {
  await using bulk = await OPENED[engine](url);
  let seconds = 0;
  const cpuBefore = process.cpuUsage();
  let making = 0;
  for (let first = 1; first <= rows; first += ROWS_AT_ONCE) {
    const madeAt = process.cpuUsage();
    const made = benchRows(first, Math.min(ROWS_AT_ONCE, rows - first + 1));
    const used = process.cpuUsage(madeAt);
    making += used.user + used.system;
    const startedAt = performance.now();
    await bulk.insert(made);
    seconds += (performance.now() - startedAt) / 1000;
  }
  const used = process.cpuUsage(cpuBefore);
  const found = await bulk.count();
  if (found !== rows) throw new Error(`${engine} has ${found} of ${rows} rows`);
  return { rows, seconds, cpuSeconds: (used.user + used.system - making) / 1e6, peakRssBytes: 0 };
}

const COLUMNS = "id, customer_id, status, amount, created_at, paid, note";

const valuesOf = ({ id, customerId, status, amount, createdAt, paid, note }: BenchRow) =>
  [id, customerId, status, amount, createdAt, paid, note] as const;

const OPENED: Readonly<Record<Engine, (url: string) => Promise<Bulk>>> = {
  postgres: async (url) => {
    const client = new Client({ connectionString: url });
    await client.connect();
    await client.query(`CREATE TABLE ceiling (id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL,
      amount numeric(12,2) NOT NULL, created_at timestamptz NOT NULL, paid boolean, note text)`);
    const text = `INSERT INTO ceiling SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::numeric[], $5::timestamptz[], $6::boolean[], $7::text[])
      ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status, amount = excluded.amount,
        created_at = excluded.created_at, paid = excluded.paid, note = excluded.note`;
    return {
      insert: async (rows) => {
        const sets = rows.map(valuesOf);
        const columns = Array.from({ length: 7 }, (_, at) => sets.map((set) => set[at]));
        await client.query({ name: "ceiling", text, values: columns });
      },
      count: async () => Number((await client.query("SELECT count(*) FROM ceiling")).rows[0]?.count),
      [Symbol.asyncDispose]: async () => {
        await client.query("DROP TABLE ceiling");
        await client.end();
      },
    };
  },
  mariadb: async (url) => {
    const connection = await createConnection(url);
    await connection.query(`CREATE TABLE ceiling (id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL,
      amount decimal(12,2) NOT NULL, created_at datetime(6) NOT NULL, paid boolean, note text)`);
    const text = `INSERT INTO ceiling VALUES (?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE customer_id = VALUES(customer_id),
      status = VALUES(status), amount = VALUES(amount), created_at = VALUES(created_at), paid = VALUES(paid), note = VALUES(note)`;
    return {
      insert: async (rows) => {
        await connection.beginTransaction();
        await connection.batch(
          text,
          rows.map((row) => [...valuesOf(row)]),
        );
        await connection.commit();
      },
      count: async () => Number((await connection.query("SELECT count(*) AS n FROM ceiling"))[0]?.n),
      [Symbol.asyncDispose]: async () => {
        await connection.query("DROP TABLE ceiling");
        await connection.end();
      },
    };
  },
  sqlite: async (url) => {
    const database = new Database(url.slice("sqlite://".length), { create: true });
    database.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    database.run(
      "CREATE TABLE ceiling (id INTEGER PRIMARY KEY, customer_id INTEGER, status TEXT, amount TEXT, created_at TEXT, paid INTEGER, note TEXT) STRICT",
    );
    const statement = database.prepare(
      `INSERT INTO ceiling (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id,
        status = excluded.status, amount = excluded.amount, created_at = excluded.created_at, paid = excluded.paid, note = excluded.note`,
    );
    return {
      insert: async (rows) => {
        database.run("BEGIN IMMEDIATE");
        for (const row of rows) statement.run(...valuesOf(row));
        database.run("COMMIT");
      },
      count: async () => Number(database.query<{ n: number }, []>("SELECT count(*) AS n FROM ceiling").get()?.n),
      [Symbol.asyncDispose]: async () => {
        statement.finalize();
        database.run("DROP TABLE ceiling");
        database.close();
      },
    };
  },
  duckdb: async (url) => {
    const instance = await DuckDBInstance.create(url.slice("duckdb://".length));
    const connection = await instance.connect();
    await connection.run(
      "CREATE TABLE ceiling (id bigint PRIMARY KEY, customer_id integer, status varchar, amount decimal(12,2), created_at timestamp, paid boolean, note varchar)",
    );
    return {
      insert: async (rows) => {
        const json = JSON.stringify(rows);
        await connection.run(
          `INSERT INTO ceiling SELECT r.* FROM (SELECT unnest(from_json($1::JSON,
            '[{"id":"BIGINT","customerId":"INTEGER","status":"VARCHAR","amount":"DECIMAL(12,2)","createdAt":"TIMESTAMP","paid":"BOOLEAN","note":"VARCHAR"}]')) AS r)
            ON CONFLICT (id) DO UPDATE SET note = excluded.note`,
          [json],
        );
      },
      count: async () => Number((await connection.runAndReadAll("SELECT count(*) FROM ceiling")).getRows()[0]?.[0]),
      [Symbol.asyncDispose]: async () => {
        await connection.run("DROP TABLE ceiling");
        connection.closeSync();
        instance.closeSync();
      },
    };
  },
};
