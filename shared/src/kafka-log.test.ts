import { expect, test } from "bun:test";
import { logLevel } from "kafkajs";
import { kafkaLogCreator } from "./kafka-log.ts";

test("kafkajs's log goes where ours goes, quietly whatever its level, with its fields but without time and stack", () => {
  const lines: unknown[] = [];
  const at = (name: string) => (fields: object, message: string) => void lines.push([name, fields, message]);
  const write = kafkaLogCreator({ debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") })(logLevel.INFO);
  const log = { timestamp: "2026-01-01T00:00:00Z", message: "Crash", groupId: "g", stack: "at...", logger: "kafkajs" };
  for (const level of [logLevel.ERROR, logLevel.INFO]) write({ namespace: "Consumer", level, label: "", log });
  const line = ["debug", { kafka: { namespace: "Consumer", groupId: "g" } }, "Crash"];
  expect(lines).toEqual([line, line]);
});
