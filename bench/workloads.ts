/** What main-db is given to do: the same changes every time, but for its clock. */
export interface Workload {
  /** Row changes when nothing else is asked for. */
  readonly changes: number;
  /** For people. */
  readonly what: string;
  /** Makes its tables, of which replicas have the rows before the clock starts, and the procedure that `write` calls. */
  readonly schema: string;
  /** Commits so many row changes, or a few more. */
  write(changes: number): string;
  /** Rows that are there before, and that replicas have before the clock starts. */
  readonly base: number;
  /** Asks how many changes there were; null: as many as were wanted. */
  readonly counted: string | null;
  /** Its rows are those of the bulk inserts that are ceilings: `benchRows`. */
  readonly isOfBenchRows: boolean;
}

export const WORKLOADS = ["inserts", "mixed", "large", "one-row", "wide", "spread"] as const;
export type WorkloadName = (typeof WORKLOADS)[number];

/** The columns of a row of `bench`, by its `id`: about 200 bytes, of which nothing compresses well. */
export const benchRow = (status: string): string => `id, id % 5000, ${status}, (id % 100000) / 100.0, now(), id % 2 = 0,
        md5(id::text) || md5((id + 1)::text) || md5((id + 2)::text) || md5((id + 3)::text)`;

/** Of the mixed workload, which is there before its first change. */
const CUSTOMERS = 20_000;

/** Inserts into the table that every trial has, so many in a transaction. */
const inserting = (changes: number, perTransaction: number | null, what: string): Workload => ({
  changes,
  what,
  schema: "",
  write: (rows) => `CALL fill(${rows}, ${perTransaction ?? rows})`,
  base: 0,
  counted: null,
  isOfBenchRows: true,
});

/**
 * A shop: half of the transactions are an order of one to four lines for one of the customers, whose balance it changes; others change an
 * order's state or a customer, a few delete an order with its lines. Most of them concern few customers and young orders.
 */
const mixed: Workload = {
  changes: 300_000,
  what: "inserts, updates and deletes in transactions of 1 to 6 changes, over three tables, most of few keys",
  schema: `
    CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, balance numeric(14,2) NOT NULL, changed_at timestamptz NOT NULL);
    CREATE TABLE orders (id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL, total numeric(12,2) NOT NULL,
      placed_at timestamptz NOT NULL, note text);
    CREATE TABLE lines (order_id bigint, line integer, sku text NOT NULL, quantity integer NOT NULL, price numeric(10,2) NOT NULL,
      PRIMARY KEY (order_id, line));
    INSERT INTO customers SELECT id, 'customer ' || md5(id::text), 0, now() FROM generate_series(1, ${CUSTOMERS}) AS id;
    CREATE SCHEMA bench_own;
    CREATE TABLE bench_own.written AS SELECT 0::bigint AS changes;
    CREATE FUNCTION skewed(count bigint) RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT floor(power(random(), 3) * count)::bigint';
    CREATE PROCEDURE trade(wanted bigint) LANGUAGE plpgsql AS $$
    DECLARE done bigint := 0; newest bigint := 0; oldest bigint := 1; customer integer; kind double precision; taken bigint; old bigint;
    BEGIN
      PERFORM setseed(0.5);
      WHILE done < wanted LOOP
        kind := random();
        customer := 1 + skewed(${CUSTOMERS});
        old := newest - skewed(newest - oldest + 1);
        IF kind < 0.5 OR newest - oldest < 100 THEN
          newest := newest + 1;
          INSERT INTO orders VALUES (newest, customer, 'new', newest % 1000, now(), md5(newest::text) || md5(customer::text));
          INSERT INTO lines SELECT newest, n, 'SKU-' || md5((newest + n)::text), n, newest % 100 FROM generate_series(1, 1 + (newest % 4)::integer) AS n;
          UPDATE customers SET balance = balance + newest % 1000, changed_at = now() WHERE id = customer;
          done := done + 3 + newest % 4;
        ELSIF kind < 0.8 THEN
          UPDATE orders SET status = CASE WHEN status = 'new' THEN 'paid' ELSE 'shipped' END WHERE id = old;
          GET DIAGNOSTICS taken = ROW_COUNT;
          done := done + taken;
        ELSIF kind < 0.95 THEN
          UPDATE customers SET balance = balance - 1, changed_at = now() WHERE id = customer;
          done := done + 1;
        ELSE
          DELETE FROM lines WHERE order_id = oldest;
          GET DIAGNOSTICS taken = ROW_COUNT;
          DELETE FROM orders WHERE id = oldest;
          done := done + taken + 1;
          oldest := oldest + 1;
        END IF;
        COMMIT;
      END LOOP;
      UPDATE bench_own.written SET changes = changes + done;
      COMMIT;
    END $$;`,
  write: (changes) => `CALL trade(${changes})`,
  base: CUSTOMERS,
  counted: "SELECT changes::integer AS changes FROM bench_own.written",
  isOfBenchRows: false,
};

/** Compressible as such texts are, but not by a tenth: hexadecimal digits. */
const wide: Workload = {
  changes: 100_000,
  what: "rows of 2 KB, inserted in transactions of 100",
  schema: `
    CREATE TABLE wide (id bigint PRIMARY KEY, at timestamptz NOT NULL, body text NOT NULL);
    CREATE PROCEDURE fill_wide(total bigint) LANGUAGE plpgsql AS $$
    BEGIN
      FOR chunk IN 1..total BY 100 LOOP
        INSERT INTO wide SELECT id, now(), (SELECT string_agg(md5((id * 64 + n)::text), '') FROM generate_series(1, 63) AS n)
          FROM generate_series(chunk, least(chunk + 99, total)) AS id;
        COMMIT;
      END LOOP;
    END $$;`,
  write: (rows) => `CALL fill_wide(${rows})`,
  base: 0,
  counted: null,
  isOfBenchRows: false,
};

const SPREAD_TABLES = 500;

/** The rows of `inserts`, for what a table costs: `inserting` has them in one. */
const spread: Workload = {
  changes: 500_000,
  what: `rows of 200 bytes over ${SPREAD_TABLES} tables, inserted in transactions of 10 each into 10 of them`,
  schema: `
    CREATE FUNCTION spread_rows(first bigint, last bigint) RETURNS SETOF bench LANGUAGE sql AS $$
      SELECT ${benchRow("'new'")} FROM generate_series(first, last) AS id $$;
    DO $$ BEGIN
      FOR n IN 0..${SPREAD_TABLES - 1} LOOP
        EXECUTE format('CREATE TABLE spread_%s (LIKE bench INCLUDING ALL)', n);
        EXECUTE format('INSERT INTO spread_%s SELECT * FROM spread_rows(0, 0)', n);
      END LOOP;
    END $$;
    CREATE PROCEDURE fill_spread(total bigint) LANGUAGE plpgsql AS $$
    DECLARE n bigint := 0;
    BEGIN
      FOR chunk IN 1..total BY 10 LOOP
        EXECUTE format('INSERT INTO spread_%s SELECT * FROM spread_rows($1, $2)', n % ${SPREAD_TABLES})
          USING chunk, least(chunk + 9, total);
        n := n + 1;
        IF n % 10 = 0 THEN COMMIT; END IF;
      END LOOP;
    END $$;`,
  write: (rows) => `CALL fill_spread(${rows})`,
  base: SPREAD_TABLES,
  counted: null,
  isOfBenchRows: false,
};

export const workloadNamed: Readonly<Record<WorkloadName, Workload>> = {
  inserts: inserting(500_000, 100, "rows of 200 bytes, inserted in transactions of 100"),
  mixed,
  large: inserting(1_000_000, null, "one transaction of rows of 200 bytes"),
  "one-row": inserting(200_000, 1, "transactions of one row of 200 bytes"),
  wide,
  spread,
};
