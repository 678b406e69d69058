import {
  CompressionCodecs,
  CompressionTypes,
  Kafka,
  type KafkaConfig,
  type Producer,
  type RetryOptions,
  type SASLOptions,
} from "kafkajs";
import { type KafkaLogger, kafkaLogCreator } from "./kafka-log.ts";
import type { KafkaSockets } from "./kafka-sockets.ts";

/** How a service reaches Kafka; the same for publisher, consumer and tests. */
export interface KafkaOptions {
  /** `host:port`, at least one; the rest of the cluster is discovered. */
  readonly brokers: readonly string[];
  readonly clientId: string;
  /** null: no TLS. PEM texts; without `ca` the system's authorities are trusted. */
  readonly ssl: KafkaTls | null;
  readonly sasl: KafkaSasl | null;
  readonly logger: KafkaLogger;
}

export interface KafkaTls {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
}

export interface KafkaSasl {
  readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  readonly username: string;
  readonly password: string;
}

export type KafkaCompression = "none" | "gzip" | "zstd";

/**
 * Enough to ride over a leader election (5.5 s of pauses in all), and then an error. The endless retry is the service's, with a fresh
 * client: inside kafkajs a missing topic with unlimited retries never returns. Every field is given because kafkajs's own defaults
 * are others under NODE_ENV=test.
 */
export const KAFKA_RETRY = {
  retries: 8,
  initialRetryTime: 100,
  maxRetryTime: 1_000,
  factor: 0.2,
  multiplier: 2,
} as const satisfies RetryOptions;

/** kafkajs waits 1 s by default: too short for TLS to another region. */
const CONNECTION_TIMEOUT_MS = 10_000;
/** No answer for this long is a broker that hangs. A produce request waits for its replicas, a fetch at most its own wait time. */
const REQUEST_TIMEOUT_MS = 20_000;

/**
 * A client without any connection yet. Connections belong to the producers, consumers and admins made from it, and to `sockets`, which
 * ends them all.
 */
export function kafkaClient(options: KafkaOptions, sockets: KafkaSockets): Kafka {
  const config: KafkaConfig = {
    brokers: [...options.brokers],
    clientId: options.clientId,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    authenticationTimeout: CONNECTION_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    retry: KAFKA_RETRY,
    socketFactory: sockets.factory,
    logCreator: kafkaLogCreator(options.logger),
  };
  if (options.ssl) config.ssl = tlsOptions(options.ssl);
  if (options.sasl) config.sasl = saslOptions(options.sasl);
  return new Kafka(config);
}

/**
 * One whose topics are made before, and have one partition. Retries inside kafkajs neither double nor reorder; a restart does, and whoever
 * reads tells by position. Never two unresolved sends at once.
 */
export function idempotentProducer(kafka: Kafka): Producer {
  return kafka.producer({
    idempotent: true,
    allowAutoTopicCreation: false,
    createPartitioner: () => () => 0,
    retry: KAFKA_RETRY,
  });
}

function tlsOptions({ ca, cert, key }: KafkaTls): NonNullable<KafkaConfig["ssl"]> {
  return { ...(ca === null ? {} : { ca: [ca] }), ...(cert === null ? {} : { cert }), ...(key === null ? {} : { key }) };
}

function saslOptions({ mechanism, username, password }: KafkaSasl): SASLOptions {
  switch (mechanism) {
    case "plain":
      return { mechanism, username, password };
    case "scram-sha-256":
      return { mechanism, username, password };
    case "scram-sha-512":
      return { mechanism, username, password };
  }
}

export function compressionType(compression: KafkaCompression): CompressionTypes {
  switch (compression) {
    case "none":
      return CompressionTypes.None;
    case "gzip":
      return CompressionTypes.GZIP;
    case "zstd":
      return CompressionTypes.ZSTD;
  }
}

/** Level 1: twice the speed of the default for about a tenth more bytes; the client's core is scarcer than the network. */
const ZSTD_LEVEL = 1;

// kafkajs has only gzip built in, and takes other codecs from this global table.
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder: { readonly buffer: Buffer }) => Bun.zstdCompressSync(encoder.buffer, { level: ZSTD_LEVEL }),
  decompress: async (buffer: Buffer) => Bun.zstdDecompressSync(buffer),
});
