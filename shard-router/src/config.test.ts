import { expect, test } from "bun:test";
import { readRouterConfig, unknownRouterVariables } from "./config.ts";

const KAFKA = { KAFKA_BROKERS: "k:9092" };

test("the replica's name comes from its URL unless it is given", () => {
  expect(readRouterConfig({ ...KAFKA, REPLICA_URL: "postgres://u:p@h/shop" }).replicaName).toBe("shop");
  expect(readRouterConfig({ ...KAFKA, REPLICA_URL: "sqlite:///data/shop.db" }).replicaName).toBe("shop");
  expect(readRouterConfig({ ...KAFKA, REPLICA_URL: "sqlite:shop.db", REPLICA_NAME: "mine" }).replicaName).toBe("mine");
});

test("a name that a consumer group cannot have must be replaced", () => {
  expect(() => readRouterConfig({ ...KAFKA, REPLICA_URL: "postgres://u:p@h/my%20shop" })).toThrow("REPLICA_NAME is not set");
  expect(() => readRouterConfig({ ...KAFKA, REPLICA_URL: "sqlite:a.db", REPLICA_NAME: "a b" })).toThrow("REPLICA_NAME");
});

test("a URL's password stays unsaid", () => {
  expect(() => readRouterConfig({ ...KAFKA, REPLICA_URL: "oracle://u:hunter2@h/d" })).toThrow(/unknown scheme oracle/);
  expect(() => readRouterConfig({ ...KAFKA, REPLICA_URL: "oracle://u:hunter2@h/d" })).not.toThrow(/hunter2/);
});

test("a shard's rules are checked with each other, a typing error is named", () => {
  const replica = { ...KAFKA, REPLICA_URL: "sqlite:a.db" };
  expect(readRouterConfig({ ...replica, ROUTER_SHARD: "0/4" }).ownership.text).toBe("0/4");
  expect(() => readRouterConfig({ ...replica, ROUTER_SHARD: "4/4" })).toThrow("there is no shard 4 of 4");
  expect(() => readRouterConfig({ ...replica, ROUTER_SHARD_KEYS: "public.t=id" })).toThrow("ROUTER_SHARD is not set");
  expect(readRouterConfig({ ...replica, ROUTER_SHARD_KEYS: "public.t=region:eu" }).ownership.text).toBe("public.t=region:eu");
  expect(() => readRouterConfig({ ...replica, ROUTER_ON_ERROR: "skip" })).toThrow("ROUTER_ON_ERROR");
  expect(unknownRouterVariables({ ...replica, ROUTER_TABELS: "x" })).toEqual(["ROUTER_TABELS"]);
});
