import { describe, expect, test } from "bun:test";
import { type LogEntry, logLevel } from "kafkajs";
import { kafkaLogCreator } from "./kafka-log.ts";

function logged(level: logLevel, log: Partial<LogEntry["log"]> & { readonly message: string }) {
  const lines: { readonly at: string; readonly fields: object; readonly message: string }[] = [];
  const at = (name: string) => (fields: object, message: string) => void lines.push({ at: name, fields, message });
  const write = kafkaLogCreator({ debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") })(logLevel.INFO);
  write({ namespace: "Consumer", level, label: "", log: { timestamp: "2026-01-01T00:00:00Z", ...log } });
  return lines;
}

describe("kafkajs's log", () => {
  test("goes where ours goes: what it calls an error as a warning, with its fields but without time and stack", () => {
    const lines = logged(logLevel.ERROR, { message: "Crash", groupId: "g", stack: "at...", logger: "kafkajs" });
    expect(lines).toEqual([{ at: "warn", fields: { kafka: { namespace: "Consumer", groupId: "g" } }, message: "Crash" }]);
  });

  test.each([
    ["The group is rebalancing, re-joining", undefined],
    ["Response GroupCoordinator(key: 10, version: 2)", "The group coordinator is not available"],
    ["Response JoinGroup(key: 11, version: 5)", "The coordinator is loading and hence can't process requests for this group"],
    ["Connection error: this Kafka client is closed", undefined],
  ])("is quiet about the normal life of a group and a broker: %s", (message, error) => {
    expect(logged(logLevel.ERROR, { message, error })[0]?.at).toBe("debug");
  });

  test("is quiet below a warning", () => {
    for (const level of [logLevel.INFO, logLevel.DEBUG]) expect(logged(level, { message: "Stopped" })[0]?.at).toBe("debug");
    expect(logged(logLevel.WARN, { message: "odd" })[0]?.at).toBe("warn");
  });
});
