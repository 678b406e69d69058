import { readFileSync } from "node:fs";
import type { KafkaOptions } from "./kafka.ts";
import type { KafkaLogger } from "./kafka-log.ts";
import { flag, integer, oneOf, parsed, type Settings, text, type Values } from "./settings.ts";

/** Variables that both services read (contract.md §2). */
export const COMMON_SETTINGS = {
  KAFKA_BROKERS: {
    kind: parsed("comma-separated host:port", parseBrokers),
    meaning: "where to find the cluster; one broker is enough, the others are discovered",
  },
  KAFKA_TOPIC_PREFIX: {
    kind: text("letters, digits, `.`, `_`, `-`; at most 60", /^[A-Za-z0-9._-]{1,60}$/),
    default: "cascade",
    meaning: "first part of every topic name, and of the consumer groups",
  },
  KAFKA_CLIENT_ID: { kind: text("any text"), default: null, shownDefault: "service name", meaning: "name in the brokers' logs" },
  KAFKA_SSL: { kind: flag, default: "false", meaning: "TLS to the brokers" },
  KAFKA_SSL_CA_FILE: {
    kind: text("a readable file"),
    default: null,
    meaning: "PEM of the authorities to trust, instead of the system's",
  },
  KAFKA_SSL_CERT_FILE: { kind: text("a readable file"), default: null, meaning: "PEM of the client's certificate" },
  KAFKA_SSL_KEY_FILE: { kind: text("a readable file"), default: null, meaning: "PEM of the client's key" },
  KAFKA_SASL_MECHANISM: {
    kind: oneOf("plain", "scram-sha-256", "scram-sha-512"),
    default: null,
    meaning: "how to log in to the brokers",
  },
  KAFKA_SASL_USERNAME: { kind: text("any text"), default: null, file: true, meaning: "with KAFKA_SASL_MECHANISM" },
  KAFKA_SASL_PASSWORD: { kind: text("any text"), default: null, secret: true, file: true, meaning: "with KAFKA_SASL_MECHANISM" },
  HTTP_PORT: {
    kind: integer(0, 65_535),
    default: "9464",
    meaning: "`/metrics`, `/health/live`, `/health/ready`, `/status`; 0 takes a free port and logs it",
  },
  HTTP_HOST: { kind: text("an address of this machine"), default: "0.0.0.0", meaning: "address to listen on" },
  LOG_LEVEL: {
    kind: oneOf("trace", "debug", "info", "warn", "error", "fatal", "silent"),
    default: "info",
    meaning: "least severe level that is logged",
  },
  SHUTDOWN_TIMEOUT_MS: {
    kind: integer(0, 3_600_000),
    default: "10000",
    meaning: "after SIGTERM or SIGINT: finish the batch in hand, then exit 0; past it exit 1",
  },
} as const satisfies Settings;

type CommonValues = Values<typeof COMMON_SETTINGS>;

function parseBrokers(value: string): readonly string[] {
  const brokers = value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  if (brokers.length === 0) throw new SyntaxError("no broker given");
  for (const broker of brokers) {
    const port = /^(?:\[[^\]]+\]|[^:[\]/\s]+):(\d+)$/.exec(broker)?.[1];
    if (port === undefined || Number(port) < 1 || Number(port) > 65_535) {
      throw new SyntaxError(`${JSON.stringify(broker)} is not host:port`);
    }
  }
  return brokers;
}

/** What concerns several of the common variables at once. */
export function checkCommon(values: CommonValues): readonly string[] {
  const problems: string[] = [];
  const sasl = [values.KAFKA_SASL_USERNAME, values.KAFKA_SASL_PASSWORD].filter((value) => value !== null).length;
  if (values.KAFKA_SASL_MECHANISM !== null && sasl < 2) {
    problems.push("KAFKA_SASL_MECHANISM is set without KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD; set all three or none");
  }
  if (values.KAFKA_SASL_MECHANISM === null && sasl > 0) {
    problems.push("KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD is set without KAFKA_SASL_MECHANISM; set all three or none");
  }
  if ((values.KAFKA_SSL_CERT_FILE === null) !== (values.KAFKA_SSL_KEY_FILE === null)) {
    problems.push("KAFKA_SSL_CERT_FILE and KAFKA_SSL_KEY_FILE go together; set both or none");
  }
  for (const name of ["KAFKA_SSL_CA_FILE", "KAFKA_SSL_CERT_FILE", "KAFKA_SSL_KEY_FILE"] as const) {
    const path = values[name];
    if (path === null) continue;
    if (!values.KAFKA_SSL) problems.push(`${name} is set without KAFKA_SSL; set KAFKA_SSL=true`);
    const failure = readFailure(path);
    if (failure !== null)
      problems.push(`${name} is ${JSON.stringify(path)}, which cannot be read (${failure}); allowed: a readable file`);
  }
  return problems;
}

function readFailure(path: string): string | null {
  try {
    readFileSync(path);
    return null;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "unknown reason";
  }
}

/** How the service reaches Kafka. */
export function kafkaOptions(values: CommonValues, service: string, logger: KafkaLogger): KafkaOptions {
  const pem = (path: string | null) => (path === null ? null : readFileSync(path, "utf8"));
  const { KAFKA_SASL_MECHANISM: mechanism, KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = values;
  return {
    brokers: values.KAFKA_BROKERS,
    clientId: values.KAFKA_CLIENT_ID ?? service,
    ssl: values.KAFKA_SSL
      ? { ca: pem(values.KAFKA_SSL_CA_FILE), cert: pem(values.KAFKA_SSL_CERT_FILE), key: pem(values.KAFKA_SSL_KEY_FILE) }
      : null,
    sasl: mechanism === null || username === null || password === null ? null : { mechanism, username, password },
    logger,
  };
}
