import { expect, test } from "bun:test";
import { CascadeError } from "./errors.ts";
import { ServiceHealth } from "./service-health.ts";

const away = (code: string) => new CascadeError({ code, verdict: "retry", message: `${code} is away`, advice: "wait" });

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
  health.failed(away("KAFKA"));
  expect(health.reasons()).toEqual(["KAFKA: KAFKA is away"]);
  expect(health.ranForMs()).toBe(0);
  health.running();
  expect(health.reasons()).toEqual([]);
  expect(health.lastError).toMatchObject({ code: "KAFKA", advice: "wait" });
});

test("an error is news once, until another one comes or it has healed in between", () => {
  const health = new ServiceHealth();
  expect([away("A"), away("A"), away("B"), away("B")].map((error) => health.failed(error))).toEqual([true, false, true, false]);
  health.running();
  expect(health.failed(away("B"))).toBe(true);
});
