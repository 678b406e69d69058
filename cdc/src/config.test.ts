import { expect, test } from "bun:test";
import { RefusalError } from "@cascade/shared/settings";
import { readCdcConfig, unknownCdcVariables } from "./config.ts";

const REQUIRED = { KAFKA_BROKERS: "k:9092", CDC_DATABASE_URL: "postgres://u:hunter2@h/d" };

test("two variables are enough", () => {
  const config = readCdcConfig(REQUIRED);
  expect(config).toMatchObject({ CDC_SLOT: "cascade", CDC_MODE: "stream", KAFKA_TOPIC_PREFIX: "cascade", HTTP_PORT: 9464 });
  expect(config.CDC_TABLES.matches({ schema: "public", table: "x" })).toBe(true);
  expect(config.CDC_TABLES.matches({ schema: "other", table: "x" })).toBe(false);
});

test("exclusions alone apply to the default", () => {
  const { CDC_TABLES: tables } = readCdcConfig({ ...REQUIRED, CDC_TABLES: "!public.audit" });
  expect(tables.matches({ schema: "public", table: "x" })).toBe(true);
  expect(tables.matches({ schema: "public", table: "audit" })).toBe(false);
});

test.each([
  ["mysql://u:hunter2@h/d", "postgres://"],
  ["postgres:///hunter2", "no host"],
  ["postgres://u:hunter2@h", "no database"],
  ["postgres://u:hunter2 @h:x/d", "cannot be read"],
])("URL %# is refused, its password unsaid", (url, reason) => {
  try {
    readCdcConfig({ ...REQUIRED, CDC_DATABASE_URL: url });
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(RefusalError);
    expect(String(error)).toContain(reason);
    expect(String(error)).not.toContain("hunter2");
  }
});

test("what this version cannot do is refused, a typing error is named", () => {
  expect(() => readCdcConfig({ ...REQUIRED, CDC_SNAPSHOT: "always" })).toThrow("CDC_SNAPSHOT");
  expect(() => readCdcConfig({ ...REQUIRED, KAFKA_PARTITIONS: "0" })).toThrow("KAFKA_PARTITIONS");
  expect(unknownCdcVariables({ ...REQUIRED, CDC_TABELS: "x" })).toEqual(["CDC_TABELS"]);
});

test("a repair copies tables: it is not set beside what copies none", () => {
  const repair = { ...REQUIRED, CDC_ON_SLOT_LOST: "resnapshot" };
  expect(readCdcConfig(repair)).toMatchObject({ CDC_ON_SLOT_LOST: "resnapshot", CDC_HEARTBEAT_INTERVAL_MS: 5_000 });
  expect(() => readCdcConfig({ ...repair, CDC_SNAPSHOT: "never" })).toThrow("set CDC_SNAPSHOT=initial");
  expect(() => readCdcConfig({ ...REQUIRED, CDC_HEARTBEAT_INTERVAL_MS: "-1" })).toThrow("CDC_HEARTBEAT_INTERVAL_MS");
});
