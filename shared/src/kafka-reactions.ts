import type { CascadeErrorInit } from "./errors.ts";

/** What errors of Kafka and of its client mean to us. */

export type Reaction = Pick<CascadeErrorInit, "code" | "verdict" | "advice">;

export const UNAVAILABLE: Reaction = {
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
    "grant this user on the prefix's topics: cdc Create, Describe, Read, Write, DescribeConfigs, AlterConfigs, cluster IdempotentWrite, Read on the consumer groups whose names begin with <prefix>.signals, and Describe and Write on the transactional ids that begin with <prefix>.cdc; shard-router Describe and Read, Write on <prefix>.signals, and Read on the consumer groups whose names begin with <prefix>.<REPLICA_NAME>; with ROUTER_ON_ERROR=dead-letter also Create and Write on <prefix>.dead-letters.<REPLICA_NAME>, and cluster IdempotentWrite",
};
export const TLS: Reaction = {
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
export const OTHER: Reaction = {
  code: "KAFKA_ERROR",
  verdict: "retry",
  advice: "see the brokers' logs; it is tried again with a fresh connection",
};

/** By Kafka's protocol error, every one that kafkajs knows: names in lines, in no order. */
const BY_MEANING: readonly (readonly [Reaction, string])[] = [
  [AUTHENTICATION, "SASL_AUTHENTICATION_FAILED UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE SECURITY_DISABLED"],
  [AUTHORIZATION, "TOPIC_AUTHORIZATION_FAILED GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED"],
  [AUTHORIZATION, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED DELEGATION_TOKEN_AUTHORIZATION_FAILED"],
  [UNSUPPORTED, "UNSUPPORTED_VERSION UNSUPPORTED_FOR_MESSAGE_FORMAT UNSUPPORTED_COMPRESSION_TYPE"],
  [REFUSED_TOPIC, "POLICY_VIOLATION INVALID_CONFIG INVALID_PARTITIONS INVALID_TOPIC_EXCEPTION TOPIC_DELETION_DISABLED"],
  [REFUSED_TOPIC, "INVALID_REPLICA_ASSIGNMENT"],
  // More brokers may be starting.
  [REPLICAS, "INVALID_REPLICATION_FACTOR NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND"],
  [MISSING_TOPIC, "UNKNOWN_TOPIC_OR_PARTITION"],
  [TOO_LARGE, "MESSAGE_TOO_LARGE RECORD_LIST_TOO_LARGE"],
  [FENCED, "INVALID_PRODUCER_EPOCH INVALID_PRODUCER_ID_MAPPING INVALID_TXN_STATE"],
  [GROUP, "UNKNOWN_MEMBER_ID ILLEGAL_GENERATION REBALANCE_IN_PROGRESS MEMBER_ID_REQUIRED FENCED_INSTANCE_ID"],
  [GROUP, "INCONSISTENT_GROUP_PROTOCOL GROUP_MAX_SIZE_REACHED UNSTABLE_OFFSET_COMMIT GROUP_ID_NOT_FOUND NON_EMPTY_GROUP"],
  [GROUP, "GROUP_SUBSCRIBED_TO_TOPIC"],
  [UNAVAILABLE, "GROUP_LOAD_IN_PROGRESS GROUP_COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR_FOR_GROUP LEADER_NOT_AVAILABLE"],
  [UNAVAILABLE, "NOT_LEADER_FOR_PARTITION BROKER_NOT_AVAILABLE REQUEST_TIMED_OUT REPLICA_NOT_AVAILABLE NETWORK_EXCEPTION"],
  [UNAVAILABLE, "NOT_CONTROLLER STALE_CONTROLLER_EPOCH KAFKA_STORAGE_ERROR LISTENER_NOT_FOUND FENCED_LEADER_EPOCH"],
  [UNAVAILABLE, "UNKNOWN_LEADER_EPOCH STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE PREFERRED_LEADER_NOT_AVAILABLE"],
  [UNAVAILABLE, "ELIGIBLE_LEADERS_NOT_AVAILABLE LOG_DIR_NOT_FOUND"],
  // The producer's numbers are off, a record was damaged on its way, or nothing of ours asks for it: a fresh client begins anew.
  [OTHER, "UNKNOWN OFFSET_OUT_OF_RANGE CORRUPT_MESSAGE INVALID_FETCH_SIZE OFFSET_METADATA_TOO_LARGE INVALID_REQUIRED_ACKS"],
  [OTHER, "INVALID_GROUP_ID INVALID_SESSION_TIMEOUT INVALID_COMMIT_OFFSET_SIZE INVALID_TIMESTAMP TOPIC_ALREADY_EXISTS"],
  [OTHER, "INVALID_REQUEST OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER INVALID_TRANSACTION_TIMEOUT"],
  [OTHER, "CONCURRENT_TRANSACTIONS TRANSACTION_COORDINATOR_FENCED OPERATION_NOT_ATTEMPTED UNKNOWN_PRODUCER_ID"],
  [OTHER, "REASSIGNMENT_IN_PROGRESS DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH"],
  [OTHER, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE FETCH_SESSION_ID_NOT_FOUND"],
  [OTHER, "INVALID_FETCH_SESSION_EPOCH ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS INVALID_RECORD"],
  [OTHER, "KAFKAJS_UNKNOWN_ERROR_CODE"],
];

export const KAFKA_REACTIONS: ReadonlyMap<string, Reaction> = new Map(
  BY_MEANING.flatMap(([reaction, types]) => types.split(" ").map((type) => [type, reaction] as const)),
);

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
