import type { Shop } from "./shop.ts";

/** One business transaction; resolves with the number of row changes that it committed (a truncate counts as one). */
export type ShopTransaction = (shop: Shop) => Promise<number>;

const newCustomers =
  (count: number): ShopTransaction =>
  async ({ values, random, rows, customers }) => {
    const made = await rows<{ id: string }>(
      `INSERT INTO customers (external_id, email, name, is_active, credit_limit, score, born, tags, preferences, avatar, notes)
       SELECT ($1::uuid[])[n], $2 || n || '@example.com', $3, n % 7 <> 0, $4, $5, $6, $7::text[], $8, $9, $10 FROM generate_series(1, $11::int) n RETURNING id`,
      [
        Array.from({ length: count }, values.uuid),
        random.hex(8),
        values.words(2),
        random.chance(0.9) ? values.price() : null,
        values.float(),
        random.chance(0.8) ? values.date() : null,
        values.textArray(),
        values.json(),
        random.chance(0.5) ? values.bytes() : null,
        random.chance(0.5) ? values.longText() : null,
        count,
      ],
    );
    for (const { id } of made) customers.add(id);
    return made.length;
  };

/** Small columns only: `notes`, when it is long, is not sent. */
const touchCustomer: ShopTransaction = async ({ values, random, change, customers }) =>
  change(
    "UPDATE customers SET score = $2, is_active = $3, credit_limit = $4, version = version + 1, updated_at = now() WHERE id = $1",
    [customers.pick(), values.float(), random.chance(0.8), random.chance(0.9) ? values.price() : null],
  );

const rewriteNotes: ShopTransaction = async ({ values, random, change, customers }) =>
  change("UPDATE customers SET notes = $2, preferences = $3, tags = $4, version = version + 1 WHERE id = $1", [
    customers.pick(),
    random.chance(0.8) ? values.longText() : random.pick([null, "short again"]),
    values.json(),
    values.textArray(),
  ]);

const deleteCustomer: ShopTransaction = async ({ change, customers }) =>
  change("DELETE FROM customers c WHERE id = $1 AND NOT EXISTS (SELECT FROM orders WHERE customer_id = c.id)", [
    customers.take(),
  ]);

const newProduct: ShopTransaction = async ({ values, random, change, products }) => {
  const sku = values.sku();
  const changes = await change(
    "INSERT INTO products (sku, name, description, price, weight_kg, in_stock, sizes, attributes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    [
      sku,
      values.words(3),
      values.longText(),
      values.price(),
      random.chance(0.8) ? values.float() : null,
      random.between(0, 500),
      random.chance(0.5) ? [random.between(1, 9), random.between(10, 60)] : null,
      values.json(),
    ],
  );
  if (changes > 0) products.add(sku);
  return changes;
};

const newPrice: ShopTransaction = async ({ values, change, products }) =>
  change("UPDATE products SET price = $2, version = version + 1 WHERE sku = $1", [products.pick(), values.price()]);

const rewriteDescription: ShopTransaction = async ({ values, change, products }) =>
  change("UPDATE products SET description = $2, version = version + 1 WHERE sku = $1", [products.pick(), values.longText()]);

const restock: ShopTransaction = async ({ random, change, products }) =>
  change("UPDATE products SET in_stock = in_stock + 10, version = version + 1 WHERE sku = ANY($1)", [
    products.some(random.between(5, 40)),
  ]);

/** The key changes, and the long description is not sent. */
const renameProduct: ShopTransaction = async ({ values, change, products }) => {
  const [old, sku] = [products.take(), values.sku()];
  // A seed that ran before on these rows makes the same names again.
  const changes = await change(
    "UPDATE products SET sku = $2, version = version + 1 WHERE sku = $1 AND NOT EXISTS (SELECT FROM products WHERE sku = $2)",
    [old, sku],
  );
  if (changes > 0) products.add(sku);
  return changes;
};

const placeOrder: ShopTransaction = async ({ values, random, rows, customers, products, orders }) => {
  const skus = products.some(random.between(1, 5));
  const [order] = await rows<{ id: string }>(
    `WITH placed AS (INSERT INTO orders (customer_id, total, gift, remark) SELECT id, $2, $3, $4 FROM customers WHERE id = $1 RETURNING id),
          items AS (INSERT INTO order_items SELECT placed.id, line, sku, 1 + line % 3, $2 FROM placed, unnest($5::text[]) WITH ORDINALITY AS item(sku, line))
     SELECT id FROM placed`,
    [
      customers.pick(),
      values.price(),
      random.pick([true, false, null]),
      random.chance(0.3) ? values.words(random.between(0, 9)) : null,
      skus,
    ],
  );
  if (order === undefined) return 0;
  orders.add({ id: order.id, lines: skus.map((_, at) => at + 1) });
  return 1 + skus.length;
};

const payOrder: ShopTransaction = async ({ values, random, change, transaction, orders }) =>
  transaction(async () => {
    const order = orders.pick();
    const status = random.pick(["paid", "shipped", "returned"]);
    const paid = await change("UPDATE orders SET status = $2, paid_on = $3, version = version + 1 WHERE id = $1", [
      order?.id,
      status,
      status === "returned" ? null : values.date(),
    ]);
    const audited = await change("INSERT INTO audit (actor, action, amount, details) VALUES ($1, $2, $3, $4)", [
      random.pick(["till", "web", null]),
      status,
      random.chance(0.5) ? values.price() : null,
      values.json(),
    ]);
    return paid + audited;
  });

const moveLine: ShopTransaction = async ({ change, orders }) => {
  const order = orders.pick();
  const [line, ...others] = order?.lines ?? [];
  if (order === null || line === undefined) return 0;
  const moved = Math.max(...order.lines) + 1;
  const changes = await change("UPDATE order_items SET line = $3, quantity = quantity + 1 WHERE order_id = $1 AND line = $2", [
    order.id,
    line,
    moved,
  ]);
  order.lines = [...others, moved];
  return changes;
};

const cancelOrder: ShopTransaction = async ({ change, transaction, orders }) => {
  const order = orders.take();
  if (order === null) return 0;
  return transaction(
    async () =>
      (await change("DELETE FROM order_items WHERE order_id = $1", [order.id])) +
      (await change("DELETE FROM orders WHERE id = $1", [order.id])),
  );
};

/** Rows that are alike in every column. */
const audit: ShopTransaction = async ({ random, change }) =>
  change("INSERT INTO audit (actor, action, amount, details) SELECT $1, $2, $3, NULL FROM generate_series(1, $4::int)", [
    random.pick(["cron", null]),
    random.pick(["seen", "exported", ""]),
    random.pick([null, "0.10", "1E3"]),
    random.between(1, 3),
  ]);

const oneAuditRow = "ctid = (SELECT ctid FROM audit OFFSET $1 LIMIT 1 FOR UPDATE SKIP LOCKED)";

const changeAudit: ShopTransaction = async ({ random, change }) =>
  change(`UPDATE audit SET action = 'changed', details = NULL WHERE ${oneAuditRow}`, [random.between(0, 20)]);

const deleteAudit: ShopTransaction = async ({ random, change }) =>
  change(`DELETE FROM audit WHERE ${oneAuditRow}`, [random.between(0, 20)]);

const truncateAudit: ShopTransaction = async ({ client, isFirst }) => {
  if (!isFirst) return 0;
  await client.query("TRUNCATE audit");
  return 1;
};

const thinkBetter: ShopTransaction = async ({ client, values, random, customers }) => {
  await client.query("BEGIN");
  await client.query("UPDATE customers SET notes = $2 WHERE id = $1", [customers.pick(), values.words(random.between(1, 9))]);
  await client.query("ROLLBACK");
  return 0;
};

/** Relative frequencies. */
const mix: readonly (readonly [number, ShopTransaction])[] = [
  [300, placeOrder],
  [120, payOrder],
  [60, cancelOrder],
  [30, moveLine],
  [80, newCustomers(1)],
  [10, newCustomers(20)],
  [150, touchCustomer],
  [15, rewriteNotes],
  [40, deleteCustomer],
  [10, newProduct],
  [100, newPrice],
  [10, rewriteDescription],
  [10, restock],
  [10, renameProduct],
  [40, audit],
  [20, changeAudit],
  [20, deleteAudit],
  [1, truncateAudit],
  [5, thinkBetter],
];
const totalWeight = mix.reduce((sum, [weight]) => sum + weight, 0);

/** A random one, as often as such things happen. An empty shop is stocked first. */
export function nextTransaction({ random, customers, products }: Shop): ShopTransaction {
  if (products.size < 50) return newProduct;
  if (customers.size < 50) return newCustomers(20);
  let left = random.fraction() * totalWeight;
  for (const [weight, transaction] of mix) {
    left -= weight;
    if (left < 0) return transaction;
  }
  return touchCustomer;
}
