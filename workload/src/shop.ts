import type { Client } from "pg";
import { KeyPool } from "./key-pool.ts";
import type { Random } from "./random.ts";
import { type ShopValues, shopValues } from "./shop-values.ts";

export interface ShopOptions {
  readonly random: Random;
  /** Of several shops on one database each has its own rows, so that they never wait for each other. */
  readonly index: number;
  readonly of: number;
}

/** What a business transaction works with. */
export interface Shop {
  readonly client: Client;
  readonly random: Random;
  readonly values: ShopValues;
  readonly customers: KeyPool<string>;
  readonly products: KeyPool<string>;
  readonly orders: KeyPool<Order>;
  /** The one shop that may empty a table. */
  readonly isFirst: boolean;
  /** Runs one statement and gives the number of rows that it changed. */
  change(text: string, values: readonly unknown[]): Promise<number>;
  rows<Row>(text: string, values: readonly unknown[]): Promise<readonly Row[]>;
  /** Several statements as one transaction. Resolves with what `work` does, once committed. */
  transaction(work: () => Promise<number>): Promise<number>;
}

export interface Order {
  readonly id: string;
  lines: readonly number[];
}

/** Takes up the rows that are there. */
export async function openShop(client: Client, options: ShopOptions): Promise<Shop> {
  const { random, index, of } = options;
  const rows = async <Row>(text: string, values: readonly unknown[]): Promise<readonly Row[]> =>
    (await client.query(text, [...values])).rows as readonly Row[];
  const mine = [of, index];
  const customers = await rows<{ id: string }>("SELECT id FROM customers WHERE id % $1 = $2 ORDER BY id DESC LIMIT 5000", mine);
  const products = await rows<{ sku: string }>(
    "SELECT sku FROM products WHERE abs(hashtext(sku)::bigint) % $1 = $2 ORDER BY sku LIMIT 5000",
    mine,
  );
  const orders = await rows<Order>(
    "SELECT order_id AS id, array_agg(line ORDER BY line) AS lines FROM order_items WHERE order_id % $1 = $2 GROUP BY 1 ORDER BY order_id DESC LIMIT 5000",
    mine,
  );
  return {
    client,
    random,
    values: shopValues(random),
    customers: new KeyPool(
      random,
      customers.map((row) => row.id),
    ),
    products: new KeyPool(
      random,
      products.map((row) => row.sku),
    ),
    orders: new KeyPool(random, orders),
    isFirst: index === 0,
    rows,
    change: async (text, values) => (await client.query(text, [...values])).rowCount ?? 0,
    transaction: (work) => inTransaction(client, work),
  };
}

async function inTransaction(client: Client, work: () => Promise<number>): Promise<number> {
  await client.query("BEGIN");
  try {
    const changes = await work();
    await client.query("COMMIT");
    return changes;
  } catch (error) {
    // On a lost connection this fails too, and the first error says why.
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  }
}
