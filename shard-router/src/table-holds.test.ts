import { expect, test } from "bun:test";
import { CascadeError, FencedError, type Verdict } from "@cascade/shared/errors";
import type { ServiceContext } from "@cascade/shared/service";
import type { Telemetry } from "@cascade/shared/telemetry";
import { ApplyStatus } from "./apply-status.ts";
import type { RouterConfig } from "./config.ts";
import { TableHolds } from "./table-holds.ts";

const partition = { topic: "cascade.public.orders", partition: 0 };

function lab() {
  const lines: string[] = [];
  const counted: string[] = [];
  const at = (level: string) => (_: object, message: string) => void lines.push(`${level} ${message}`);
  const logger = { error: at("error"), info: at("info"), debug: at("debug") };
  const telemetry = {
    observe: () => {},
    add: (_: string, __: number, labels: { readonly code: string }) => void counted.push(labels.code),
  } as unknown as Telemetry;
  const status = new ApplyStatus("cascade", "r", telemetry);
  status.follow(() => [partition]);
  const context = { logger, telemetry } as unknown as ServiceContext;
  const config = { replicaName: "r", KAFKA_TOPIC_PREFIX: "cascade" } as RouterConfig;
  return { holds: new TableHolds(config, context, status), status, lines, counted };
}

const failure = (verdict: Verdict) =>
  new CascadeError({ code: "REPLICA_TABLE_MISMATCH", verdict, message: "it does not fit", advice: "mend it" });

test("what stops one table is told once, and tried again after ever longer pauses", () => {
  const { holds, status, lines, counted } = lab();
  const pauses = Array.from({ length: 8 }, () => holds.afterFailure(partition, failure("stop-table")));
  expect(pauses[0]).toBeLessThanOrEqual(200);
  expect(pauses.at(-1)).toBeGreaterThanOrEqual(5_000);
  expect(lines.filter((line) => line.startsWith("error"))).toEqual(["error public.orders is held: it does not fit"]);
  expect(counted).toHaveLength(8);
  expect(status.reasons()).toEqual(["public.orders is held: REPLICA_TABLE_MISMATCH: it does not fit"]);
});

test("a partition that another router has moved is read again soon, and is no error", () => {
  const { holds, status, lines } = lab();
  expect(holds.afterFailure(partition, new FencedError(partition.topic, 0))).toBeLessThan(1_000);
  expect(status.reasons()).toEqual([]);
  expect(lines[0]).toStartWith("info");
});

test.each<Verdict>(["retry", "refuse", "fatal"])("verdict %s concerns more than one table", (verdict) => {
  const error = failure(verdict);
  expect(() => lab().holds.afterFailure(partition, error)).toThrow(error);
});

test("so does a bug", () => {
  expect(() => lab().holds.afterFailure(partition, new TypeError("a bug"))).toThrow("a bug");
});
