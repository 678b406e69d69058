import { expect, test } from "bun:test";
import { startCdc } from "@cascade/local/stack.ts";

test("a service that refuses to start shows its own words", async () => {
  const cdc = await startCdc({ brokers: "127.0.0.1:9", databaseUrl: "nonsense", env: { LOG_LEVEL: "info" } });
  const died = await cdc.died;
  expect(died.message).toStartWith("cdc ended by itself (status 78). Its last log lines:");
  expect(died.message).toContain("CDC_DATABASE_URL");
  await expect(cdc.ready()).rejects.toThrow("ended before it was ready (status 78)");
});

test("a service that does not get ready tells why, and can be ended", async () => {
  const databaseUrl = "postgres://nobody@127.0.0.1:9/nothing";
  await using cdc = await startCdc({ brokers: "127.0.0.1:9", databaseUrl });
  await expect(cdc.ready(1_500)).rejects.toThrow("cdc is not ready after 1.5 s: {");
  expect(await cdc.status()).toMatchObject({ service: "cdc", ready: false, eventsTotal: 0 });
  expect(await cdc.stop()).toEqual({ code: 0, signal: null });
});
