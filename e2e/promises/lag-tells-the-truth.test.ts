import { expect, setDefaultTimeout, test } from "bun:test";
import type { Service } from "@cascade/local/stack.ts";
import { until } from "@cascade/local/wait.ts";
import { openPipeline } from "../pipeline.ts";

/** P8: lag is measured end to end, and an idle source shows zero. */

setDefaultTimeout(120_000);

async function lagOf(service: Service<unknown>, metric: string): Promise<number> {
  const text = await (await fetch(`${service.httpUrl}/metrics`)).text();
  const line = text.split("\n").find((one) => one.startsWith(`${metric}{`) || one.startsWith(`${metric} `));
  return Number(line?.split(" ")[1] ?? Number.NaN);
}

test("what waits anywhere shows as lag while it waits, and as none when it has arrived", async () => {
  await using pipeline = await openPipeline({
    name: "p8_lag",
    engines: ["postgres"],
    schema: (client) => client.query("CREATE TABLE t (id int PRIMARY KEY)"),
  });
  const { sql, kafka, replicaServer } = pipeline;
  const cdc = await pipeline.cdc();
  const router = await pipeline.router("postgres");
  const lags = async () => ({
    cdc: await lagOf(cdc, "cascade_cdc_lag_seconds"),
    router: await lagOf(router, "cascade_router_lag_seconds"),
  });
  const settles = () => until(async () => Object.values(await lags()).every((lag) => lag < 0.5), 30_000);
  const reaches = (who: "cdc" | "router", seconds: number) => until(async () => (await lags())[who] >= seconds, 30_000);
  await sql("INSERT INTO t VALUES (1)");
  await pipeline.expectEqual();
  expect(await settles()).toBe(true);

  // Changes that Kafka does not take wait in cdc.
  kafka.freeze();
  await sql("INSERT INTO t VALUES (2)");
  expect(await reaches("cdc", 2)).toBe(true);
  kafka.thaw();
  await pipeline.expectEqual();
  expect(await settles()).toBe(true);

  // Those that the replica does not take wait in its router alone.
  replicaServer.freeze();
  await sql("INSERT INTO t VALUES (3)");
  expect(await reaches("router", 2)).toBe(true);
  expect((await lags()).cdc).toBeLessThan(1);
  replicaServer.thaw();
  await pipeline.expectEqual();
  expect(await settles()).toBe(true);

  // Nothing happens: nothing is late.
  await Bun.sleep(6_000);
  expect(await lags()).toEqual({ cdc: 0, router: 0 });
});
