import { expect, test } from "bun:test";
import { until } from "@cascade/local/wait.ts";
import { repeat } from "../reconnecting.ts";
import { openFaultLab } from "./lab.ts";

/** A slow link keeps the stream seconds behind main-db, and so behind what a copy's snapshot sees. */
test("a table without a key is copied while the stream is behind, and no row is there twice", async () => {
  await using lab = await openFaultLab({
    name: "faults_behind",
    engines: ["postgres"],
    schema: (client) =>
      client.query(`CREATE TABLE keyless (n int, v text); ALTER TABLE keyless REPLICA IDENTITY FULL;
        CREATE TABLE noise (id int PRIMARY KEY, v text);
        INSERT INTO keyless SELECT n, 'before' FROM generate_series(1, 50) n`),
  });
  const { pipeline } = lab;
  let n = 0;
  const load = repeat(pipeline.mainUrl, (client) => async () => {
    n += 1;
    await client.query("INSERT INTO keyless VALUES ($1, 'now')", [n]);
    await client.query("INSERT INTO noise SELECT $1, string_agg(md5(n::text), '') FROM generate_series(1, 300) n", [n]);
    await Bun.sleep(10);
    return true;
  });
  const link = lab.link("cdc - main-db");
  const cdc = await lab.cdc();
  await lab.router("postgres");
  const copies = async (status: string): Promise<boolean> =>
    (await cdc.status().catch(() => null))?.snapshots.some((one) => one.table === "public.keyless" && one.status === status) ??
    false;
  // From before the copy's mark on.
  link.set({ bytesPerSecond: 200_000 });
  expect(await until(() => copies("copying"), 60_000, 2)).toBe(true);
  await Bun.sleep(1_500);
  await load.stop();
  await link.heal();
  await pipeline.expectEqual();
  expect(n).toBeGreaterThan(20);
}, 120_000);
