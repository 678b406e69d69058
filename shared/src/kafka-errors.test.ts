import { describe, expect, test } from "bun:test";
import {
  KafkaJSConnectionError,
  KafkaJSNonRetriableError,
  KafkaJSNumberOfRetriesExceeded,
  KafkaJSProtocolError,
  KafkaJSRequestTimeoutError,
} from "kafkajs";
import { CascadeError } from "./errors.ts";
import { isKafkaError, kafkaError, withDeadline } from "./kafka-errors.ts";

const protocolError = (type: string) => Object.assign(new KafkaJSProtocolError(type), { type });
/** As kafkajs gives up: the cause within. */
const exhausted = (cause: Error) =>
  Object.assign(new KafkaJSNumberOfRetriesExceeded(cause, { retryCount: 8, retryTime: 1_000 }), { cause });

describe("kafkaError", () => {
  test.each([
    ["TOPIC_AUTHORIZATION_FAILED", "KAFKA_AUTHORIZATION", "refuse"],
    ["SASL_AUTHENTICATION_FAILED", "KAFKA_AUTHENTICATION", "refuse"],
    ["UNSUPPORTED_COMPRESSION_TYPE", "KAFKA_UNSUPPORTED", "refuse"],
    ["POLICY_VIOLATION", "KAFKA_TOPIC_REFUSED", "refuse"],
    ["NOT_ENOUGH_REPLICAS", "KAFKA_NOT_ENOUGH_REPLICAS", "retry"],
    ["UNKNOWN_TOPIC_OR_PARTITION", "KAFKA_UNKNOWN_TOPIC", "retry"],
    ["GROUP_LOAD_IN_PROGRESS", "KAFKA_UNAVAILABLE", "retry"],
    ["UNKNOWN_MEMBER_ID", "KAFKA_GROUP", "retry"],
    ["SOMETHING_NEW", "KAFKA_ERROR", "retry"],
  ] as const)("%s is %s: %s, however kafkajs wraps it", (type, code, verdict) => {
    const error = protocolError(type);
    const nonRetriable = Object.assign(new KafkaJSNonRetriableError(error), { cause: error });
    for (const thrown of [error, exhausted(error), nonRetriable]) {
      expect(kafkaError(thrown, "try")).toMatchObject({ code, verdict });
    }
  });

  test("says what was tried and what happened, and keeps the cause", () => {
    const thrown = exhausted(new KafkaJSConnectionError("Connection error: ECONNREFUSED"));
    const error = kafkaError(thrown, "publish to topic x");
    expect(error).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry", cause: thrown });
    expect(error.message).toBe("cannot publish to topic x: Connection error: ECONNREFUSED");
  });

  test("knows a certificate that does not fit, a wrong password and a broker that does not answer", () => {
    const tls = new KafkaJSConnectionError("Connection error: self-signed certificate", { code: "DEPTH_ZERO_SELF_SIGNED_CERT" });
    expect(kafkaError(exhausted(tls), "connect")).toMatchObject({ code: "KAFKA_TLS", verdict: "refuse" });
    const denied = Object.assign(new Error("denied"), { name: "KafkaJSSASLAuthenticationError" });
    expect(kafkaError(denied, "connect")).toMatchObject({ code: "KAFKA_AUTHENTICATION", verdict: "refuse" });
    const silent = new KafkaJSRequestTimeoutError("x", {
      broker: "b",
      clientId: "c",
      correlationId: 1,
      createdAt: 0,
      sentAt: 0,
      pendingDuration: 0,
    });
    expect(kafkaError(exhausted(silent), "connect")).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry" });
  });

  test("finds the one that counts among several", () => {
    const several = Object.assign(new Error("Topic errors"), {
      errors: [protocolError("TOPIC_ALREADY_EXISTS"), protocolError("INVALID_CONFIG")],
    });
    expect(kafkaError(several, "create topics")).toMatchObject({ code: "KAFKA_TOPIC_REFUSED" });
    expect(isKafkaError(several, "TOPIC_ALREADY_EXISTS")).toBe(true);
    expect(isKafkaError(several, "UNKNOWN_TOPIC_OR_PARTITION")).toBe(false);
  });

  test("takes anything thrown for one more reason to connect afresh, and leaves ours as it is", () => {
    for (const thrown of [new TypeError("undefined is not an object"), "text", null, undefined]) {
      expect(kafkaError(thrown, "read")).toMatchObject({ code: "KAFKA_ERROR", verdict: "retry" });
    }
    const ours = new CascadeError({ code: "ROW_TOO_LARGE", verdict: "fatal", message: "m", advice: "a" });
    expect(kafkaError(ours, "read")).toBe(ours);
  });

  test("ends on causes that go in a circle", () => {
    const one = new Error("one");
    const two = new Error("two", { cause: one });
    one.cause = two;
    expect(isKafkaError(one, "X")).toBe(false);
  });
});

describe("withDeadline", () => {
  test("passes on what comes in time", async () => {
    expect(await withDeadline(Promise.resolve(7), 1_000, "wait")).toBe(7);
    await expect(withDeadline(Promise.reject(new Error("no")), 1_000, "wait")).rejects.toThrow("no");
  });

  test("rejects with retry when it is late, and what comes then concerns nobody", async () => {
    const { promise, reject } = Promise.withResolvers<void>();
    const error: unknown = await withDeadline(promise, 1, "wait for x").catch((late: unknown) => late);
    expect(error).toMatchObject({ code: "KAFKA_UNAVAILABLE", verdict: "retry" });
    expect(String(error)).toContain("cannot wait for x: no answer for 0.001 s");
    reject(new Error("unhandled, if anybody still listened"));
    await new Promise(setImmediate);
  });
});
