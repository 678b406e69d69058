import { CascadeError, type CascadeErrorInit, describeError } from "./errors.ts";
import { tlsErrorCode } from "./tls-errors.ts";

export type Reaction = Pick<CascadeErrorInit, "code" | "verdict" | "advice">;

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
    "grant this user on the prefix's topics: cdc Create, Describe, Read, Write, DescribeConfigs, AlterConfigs, cluster IdempotentWrite, and Read on the consumer groups whose names begin with <prefix>.signals; shard-router Describe and Read, Write on <prefix>.signals, and Read on the consumer groups whose names begin with <prefix>.<REPLICA_NAME>",
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

const names = (reaction: Reaction, ...types: readonly string[]): Readonly<Record<string, Reaction>> =>
  Object.fromEntries(types.map((type) => [type, reaction]));

/** By Kafka's protocol error name: every one that kafkajs knows. */
export const KAFKA_REACTIONS: Readonly<Record<string, Reaction>> = {
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
  ...names(
    UNAVAILABLE,
    "REPLICA_NOT_AVAILABLE",
    "NETWORK_EXCEPTION",
    "NOT_CONTROLLER",
    "STALE_CONTROLLER_EPOCH",
    "KAFKA_STORAGE_ERROR",
  ),
  ...names(
    UNAVAILABLE,
    "LISTENER_NOT_FOUND",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "STALE_BROKER_EPOCH",
    "OFFSET_NOT_AVAILABLE",
  ),
  ...names(UNAVAILABLE, "PREFERRED_LEADER_NOT_AVAILABLE", "ELIGIBLE_LEADERS_NOT_AVAILABLE", "LOG_DIR_NOT_FOUND"),
  ...names(GROUP, "MEMBER_ID_REQUIRED", "FENCED_INSTANCE_ID", "INCONSISTENT_GROUP_PROTOCOL", "GROUP_MAX_SIZE_REACHED"),
  ...names(GROUP, "UNSTABLE_OFFSET_COMMIT", "GROUP_ID_NOT_FOUND", "NON_EMPTY_GROUP", "GROUP_SUBSCRIBED_TO_TOPIC"),
  ...names(AUTHENTICATION, "ILLEGAL_SASL_STATE", "SECURITY_DISABLED"),
  ...names(AUTHORIZATION, "DELEGATION_TOKEN_AUTHORIZATION_FAILED"),
  ...names(REFUSED_TOPIC, "TOPIC_DELETION_DISABLED", "INVALID_REPLICA_ASSIGNMENT"),
  // The producer's numbers are off, a record was damaged on its way, or nothing of ours asks for it: a fresh client begins anew.
  ...names(OTHER, "UNKNOWN", "OFFSET_OUT_OF_RANGE", "CORRUPT_MESSAGE", "INVALID_FETCH_SIZE", "OFFSET_METADATA_TOO_LARGE"),
  ...names(OTHER, "INVALID_REQUIRED_ACKS", "INVALID_GROUP_ID", "INVALID_SESSION_TIMEOUT", "INVALID_COMMIT_OFFSET_SIZE"),
  ...names(OTHER, "INVALID_TIMESTAMP", "TOPIC_ALREADY_EXISTS", "INVALID_REQUEST", "OUT_OF_ORDER_SEQUENCE_NUMBER"),
  ...names(OTHER, "DUPLICATE_SEQUENCE_NUMBER", "INVALID_PRODUCER_EPOCH", "INVALID_TXN_STATE", "INVALID_PRODUCER_ID_MAPPING"),
  ...names(
    OTHER,
    "INVALID_TRANSACTION_TIMEOUT",
    "CONCURRENT_TRANSACTIONS",
    "TRANSACTION_COORDINATOR_FENCED",
    "OPERATION_NOT_ATTEMPTED",
  ),
  ...names(
    OTHER,
    "UNKNOWN_PRODUCER_ID",
    "REASSIGNMENT_IN_PROGRESS",
    "DELEGATION_TOKEN_AUTH_DISABLED",
    "DELEGATION_TOKEN_NOT_FOUND",
  ),
  ...names(OTHER, "DELEGATION_TOKEN_OWNER_MISMATCH", "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", "DELEGATION_TOKEN_EXPIRED"),
  ...names(OTHER, "INVALID_PRINCIPAL_TYPE", "FETCH_SESSION_ID_NOT_FOUND", "INVALID_FETCH_SESSION_EPOCH", "ELECTION_NOT_NEEDED"),
  ...names(OTHER, "NO_REASSIGNMENT_IN_PROGRESS", "INVALID_RECORD", "KAFKAJS_UNKNOWN_ERROR_CODE"),
};

/** By kafkajs's error class; the others hold one of these, or heal with a fresh client. */
export const KAFKAJS_REACTIONS: Readonly<Record<string, Reaction>> = {
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

/**
 * What kafkajs threw, as the error that crosses a port; `doing` says what was tried ("publish to topic x"). Total: kafkajs itself throws
 * a bare TypeError when its last broker goes away, so an unknown error here is one more reason for a fresh client.
 */
export function kafkaError(error: unknown, doing: string): CascadeError {
  if (error instanceof CascadeError) return error;
  for (const cause of causesOf(error)) {
    const reaction = reactionTo(cause);
    if (reaction && reaction !== OTHER)
      return new CascadeError({ ...reaction, message: `cannot ${doing}: ${describeError(cause)}`, cause: error });
  }
  return new CascadeError({ ...OTHER, message: `cannot ${doing}: ${describeError(error)}`, cause: error });
}

/** Whether Kafka's protocol error `type` is what is behind `error`. */
export function isKafkaError(error: unknown, ...types: readonly string[]): boolean {
  return causesOf(error).some((cause) => types.includes(typeOf(cause)));
}

function reactionTo(error: Error): Reaction | undefined {
  if (tlsErrorCode(error) !== null) return TLS; // kafkajs passes its code on in a KafkaJSConnectionError
  return KAFKA_REACTIONS[typeOf(error)] ?? KAFKAJS_REACTIONS[error.name];
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
