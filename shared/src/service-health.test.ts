import { expect, test } from "bun:test";
import type { ErrorCode } from "./error-codes.ts";
import { CascadeError } from "./errors.ts";
import { ServiceHealth } from "./service-health.ts";

const away = (code: ErrorCode) => new CascadeError({ code, verdict: "retry", message: `${code} is away`, advice: "wait" });

test("ready while running only, and the reason is the error that heals", () => {
  const health = new ServiceHealth();
  expect(health.reasons()).toEqual(["starting: not connected yet"]);
  health.waiting("waits for somebody");
  expect(health.reasons()).toEqual(["waits for somebody"]);
  health.waiting(null);
  health.running();
  expect(health.reasons()).toEqual([]);
  health.silent("no answer");
  expect(health.reasons()).toEqual(["no answer"]);
  health.silent(null);
  expect(health.reasons()).toEqual([]);
  health.failed(away("KAFKA_UNAVAILABLE"));
  expect(health.reasons()).toEqual(["KAFKA_UNAVAILABLE: KAFKA_UNAVAILABLE is away"]);
  expect(health.ranForMs()).toBe(0);
  health.running();
  expect(health.reasons()).toEqual([]);
  expect(health.lastError).toMatchObject({ code: "KAFKA_UNAVAILABLE", advice: "wait" });
});

test("an error is news once, until another one comes or it has healed in between", () => {
  const health = new ServiceHealth();
  expect(
    [away("MAIN_DB_AWAY"), away("MAIN_DB_AWAY"), away("KAFKA_GROUP"), away("KAFKA_GROUP")].map((error) => health.failed(error)),
  ).toEqual([true, false, true, false]);
  health.running();
  expect(health.failed(away("KAFKA_GROUP"))).toBe(true);
});
