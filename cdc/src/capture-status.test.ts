import { expect, test } from "bun:test";
import { SILENT_TELEMETRY } from "@cascade/shared/testing/silent-telemetry";
import { CaptureStatus } from "./capture-status.ts";

const pending = { transaction: { txId: 1, commitLsn: 1n, committedAtMs: Date.now() - 60_000 } } as unknown as Parameters<
  CaptureStatus["publishing"]
>[0][number];

test("what Kafka does not take is late, over lives, until another cdc has the slot", () => {
  const status = new CaptureStatus("app", SILENT_TELEMETRY);
  expect(status.lagSeconds()).toBe(0);
  status.publishing([pending]);
  expect(status.lagSeconds()).toBeWithin(59, 70);
  status.publishing([pending]);
  expect(status.lagSeconds()).toBeWithin(59, 70);
  status.standsBy();
  expect(status.lagSeconds()).toBe(0);
  status.publishing([pending]);
  expect(status.lagSeconds()).toBeWithin(59, 70);
});
