import { CascadeError, type CascadeErrorInit, describeError } from "./errors.ts";

type Reaction = Pick<CascadeErrorInit, "code" | "verdict" | "advice">;

const UNAVAILABLE: Reaction = {
  code: "KAFKA_UNAVAILABLE",
  verdict: "retry",
  advice:
    "check that the brokers run and that KAFKA_BROKERS (and KAFKA_SSL) match one of their listeners; it is tried again for ever",
};
const AUTHENTICATION: Reaction = {
  code: "KAFKA_AUTHENTICATION",
  verdict: "refuse",
  advice: "set KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD to what the brokers expect",
};
const AUTHORIZATION: Reaction = {
  code: "KAFKA_AUTHORIZATION",
  verdict: "refuse",
  advice:
    "grant this user on the prefix's topics: cdc Create, Describe, Read, Write, DescribeConfigs, AlterConfigs, cluster IdempotentWrite, Read on the consumer groups whose names begin with <prefix>.signals, and Describe and Write on the transactional ids that begin with <prefix>.cdc; shard-router Describe and Read, and Read on the consumer groups whose names begin with <prefix>.<REPLICA_NAME>",
};
const TLS: Reaction = {
  code: "KAFKA_TLS",
  verdict: "refuse",
  advice: "set KAFKA_SSL_CA_FILE to the authority that signed the brokers' certificates, and use host names that are in them",
};
const UNSUPPORTED: Reaction = {
  code: "KAFKA_UNSUPPORTED",
  verdict: "refuse",
  advice: "use a Kafka of version 2.1 or newer, and none, gzip or zstd as compression",
};
const REFUSED_TOPIC: Reaction = {
  code: "KAFKA_TOPIC_REFUSED",
  verdict: "refuse",
  advice: "the broker's policy forbids this topic or its settings: create the topic by hand, or change the policy",
};
const MISSING_TOPIC: Reaction = {
  code: "KAFKA_UNKNOWN_TOPIC",
  verdict: "retry",
  advice:
    "a topic was deleted while in use: cdc creates it again, but its earlier changes are gone for replicas that had not applied them",
};
const REPLICAS: Reaction = {
  code: "KAFKA_NOT_ENOUGH_REPLICAS",
  verdict: "retry",
  advice: "start the brokers that are down, or lower min.insync.replicas or KAFKA_REPLICATION_FACTOR",
};
const TOO_LARGE: Reaction = {
  code: "KAFKA_MESSAGE_TOO_LARGE",
  verdict: "fatal",
  advice: "raise max.message.bytes of the topic",
};
const FENCED: Reaction = {
  code: "CDC_FENCED",
  verdict: "retry",
  advice:
    "nothing to do when another cdc of this KAFKA_TOPIC_PREFIX has taken over: this one waits for its slot; two that run at once need a prefix each",
};
const GROUP: Reaction = {
  code: "KAFKA_GROUP",
  verdict: "retry",
  advice: "nothing to do: the router joins its group again",
};
const OTHER: Reaction = {
  code: "KAFKA_ERROR",
  verdict: "retry",
  advice: "see the brokers' logs; it is tried again with a fresh connection",
};

/** By Kafka's protocol error name. What is not listed heals with a fresh client, or is not known to: retry. */
const BY_TYPE: Readonly<Record<string, Reaction>> = {
  SASL_AUTHENTICATION_FAILED: AUTHENTICATION,
  UNSUPPORTED_SASL_MECHANISM: AUTHENTICATION,
  TOPIC_AUTHORIZATION_FAILED: AUTHORIZATION,
  GROUP_AUTHORIZATION_FAILED: AUTHORIZATION,
  CLUSTER_AUTHORIZATION_FAILED: AUTHORIZATION,
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: AUTHORIZATION,
  UNSUPPORTED_VERSION: UNSUPPORTED,
  UNSUPPORTED_FOR_MESSAGE_FORMAT: UNSUPPORTED,
  UNSUPPORTED_COMPRESSION_TYPE: UNSUPPORTED,
  POLICY_VIOLATION: REFUSED_TOPIC,
  INVALID_CONFIG: REFUSED_TOPIC,
  INVALID_PARTITIONS: REFUSED_TOPIC,
  INVALID_TOPIC_EXCEPTION: REFUSED_TOPIC,
  // More brokers may be starting.
  INVALID_REPLICATION_FACTOR: REPLICAS,
  NOT_ENOUGH_REPLICAS: REPLICAS,
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: REPLICAS,
  UNKNOWN_TOPIC_OR_PARTITION: MISSING_TOPIC,
  MESSAGE_TOO_LARGE: TOO_LARGE,
  RECORD_LIST_TOO_LARGE: TOO_LARGE,
  INVALID_PRODUCER_EPOCH: FENCED,
  PRODUCER_FENCED: FENCED,
  INVALID_PRODUCER_ID_MAPPING: FENCED,
  INVALID_TXN_STATE: FENCED,
  UNKNOWN_MEMBER_ID: GROUP,
  ILLEGAL_GENERATION: GROUP,
  REBALANCE_IN_PROGRESS: GROUP,
  GROUP_LOAD_IN_PROGRESS: UNAVAILABLE,
  GROUP_COORDINATOR_NOT_AVAILABLE: UNAVAILABLE,
  NOT_COORDINATOR_FOR_GROUP: UNAVAILABLE,
  LEADER_NOT_AVAILABLE: UNAVAILABLE,
  NOT_LEADER_FOR_PARTITION: UNAVAILABLE,
  BROKER_NOT_AVAILABLE: UNAVAILABLE,
  REQUEST_TIMED_OUT: UNAVAILABLE,
};

/** By kafkajs's error class. */
const BY_NAME: Readonly<Record<string, Reaction>> = {
  KafkaJSSASLAuthenticationError: AUTHENTICATION,
  KafkaJSServerDoesNotSupportApiKey: UNSUPPORTED,
  KafkaJSNotImplemented: UNSUPPORTED,
  KafkaJSConnectionError: UNAVAILABLE,
  KafkaJSConnectionClosedError: UNAVAILABLE,
  KafkaJSRequestTimeoutError: UNAVAILABLE,
  KafkaJSBrokerNotFound: UNAVAILABLE,
  KafkaJSNoBrokerAvailableError: UNAVAILABLE,
  KafkaJSGroupCoordinatorNotFound: UNAVAILABLE,
  KafkaJSLockTimeout: UNAVAILABLE,
  KafkaJSTimeout: UNAVAILABLE,
};

/** Codes of Node's TLS errors, which kafkajs passes on in a KafkaJSConnectionError. */
const TLS_CODE = /^(ERR_TLS_|ERR_SSL_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;

/**
 * What kafkajs threw, as the error that crosses a port; `doing` says what was tried ("publish to topic x"). Total: kafkajs itself throws
 * a bare TypeError when its last broker goes away, so an unknown error here is one more reason for a fresh client.
 */
export function kafkaError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  for (const cause of causesOf(error)) {
    const reaction = reactionTo(cause);
    if (reaction) return new CascadeError({ ...reaction, message: `cannot ${doing}: ${describeError(cause)}`, cause: error });
  }
  return new CascadeError({ ...OTHER, message: `cannot ${doing}: ${describeError(error)}`, cause: error });
}

/** Whether Kafka's protocol error `type` is what is behind `error`. */
export function isKafkaError(error: unknown, ...types: readonly string[]): boolean {
  return causesOf(error).some((cause) => types.includes(typeOf(cause)));
}

function reactionTo(error: Error): Reaction | undefined {
  const code = (error as { readonly code?: unknown }).code;
  if (typeof code === "string" && TLS_CODE.test(code)) return TLS;
  return BY_TYPE[typeOf(error)] ?? BY_NAME[error.name];
}

const typeOf = (error: Error): string => String((error as { readonly type?: unknown }).type ?? "");

/** The innermost first: kafkajs wraps what happened in what it gave up with. */
function causesOf(error: unknown): Error[] {
  const causes: Error[] = [];
  for (let current: unknown = error; current instanceof Error && !causes.includes(current); current = current.cause) {
    const several: unknown = (current as { readonly errors?: unknown }).errors;
    if (Array.isArray(several)) causes.unshift(...several.flatMap(causesOf));
    causes.unshift(current);
  }
  return causes;
}

/** Rejects with KAFKA_UNAVAILABLE when `promise` takes longer: kafkajs alone would retry a hanging broker for minutes. */
export async function withDeadline<T>(promise: Promise<T>, ms: number, doing: string): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new CascadeError({ ...UNAVAILABLE, message: `cannot ${doing}: no answer for ${ms / 1_000} s` }));
    }, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    // When the deadline won, a later rejection concerns nobody.
    promise.catch(() => {});
  }
}
