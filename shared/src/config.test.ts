import { expect, test } from "bun:test";
import { COMMON_SETTINGS, checkCommon, kafkaOptions } from "./config.ts";
import { type Environment, readSettings } from "./settings.ts";

const read = (environment: Environment) => readSettings(COMMON_SETTINGS, environment, checkCommon);
const logger = { debug() {}, info() {}, warn() {}, error() {} };

test("brokers are listed, trimmed and checked", () => {
  expect(read({ KAFKA_BROKERS: " a:9092, [::1]:9093 ," }).KAFKA_BROKERS).toEqual(["a:9092", "[::1]:9093"]);
  for (const wrong of [",", "a", "a:", "a:b", "a:70000", "a:0", "http://a:9092"]) {
    expect(() => read({ KAFKA_BROKERS: wrong })).toThrow("KAFKA_BROKERS");
  }
});

test("SASL and TLS variables go together", () => {
  const broker = { KAFKA_BROKERS: "a:1" };
  expect(() => read({ ...broker, KAFKA_SASL_MECHANISM: "plain" })).toThrow("without KAFKA_SASL_USERNAME");
  expect(() => read({ ...broker, KAFKA_SASL_PASSWORD: "p" })).toThrow("without KAFKA_SASL_MECHANISM");
  expect(() => read({ ...broker, KAFKA_SSL: "true", KAFKA_SSL_CERT_FILE: import.meta.path })).toThrow("go together");
  expect(() => read({ ...broker, KAFKA_SSL_CA_FILE: import.meta.path })).toThrow("without KAFKA_SSL");
  expect(() => read({ ...broker, KAFKA_SSL: "true", KAFKA_SSL_CA_FILE: "/no/such" })).toThrow("ENOENT");
});

test("what was read reaches the client", () => {
  const sasl = { KAFKA_SASL_MECHANISM: "scram-sha-512", KAFKA_SASL_USERNAME: "u", KAFKA_SASL_PASSWORD: "p" };
  const values = read({ KAFKA_BROKERS: "a:1", KAFKA_SSL: "true", KAFKA_SSL_CA_FILE: import.meta.path, ...sasl });
  expect(kafkaOptions(values, "cdc", logger)).toMatchObject({
    brokers: ["a:1"],
    clientId: "cdc",
    ssl: { ca: expect.stringContaining("what was read reaches the client"), cert: null, key: null },
    sasl: { mechanism: "scram-sha-512", username: "u", password: "p" },
  });
  expect(kafkaOptions(read({ KAFKA_BROKERS: "a:1" }), "cdc", logger)).toMatchObject({ ssl: null, sasl: null });
});
