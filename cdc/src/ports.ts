import { kafkaOptions } from "@cascade/shared/config";
import type { Lsn } from "@cascade/shared/lsn";
import type { ServiceContext } from "@cascade/shared/service";
import type { ChangeSource } from "./change-source.ts";
import type { CdcConfig } from "./config.ts";
import type { EventPublisher } from "./event-publisher.ts";
import { openKafkaPublisher } from "./kafka/kafka-publisher.ts";
import { openSignals } from "./kafka/signals.ts";
import type { ChangeDecoder } from "./postgres/change-decoder.ts";
import { PollSource } from "./postgres/poll-source.ts";
import { connect } from "./postgres/session.ts";
import { advancing } from "./postgres/undecodable.ts";
import { WalSource } from "./postgres/wal-source.ts";
import type { PluginOptions } from "./postgres/wal2json.ts";
import type { SignalLog } from "./snapshot/signal-log.ts";

/** The ports as the settings want them. */

const SERVICE = "cdc";

export function openPublisher(config: CdcConfig, { logger, telemetry }: ServiceContext, db: string): Promise<EventPublisher> {
  return openKafkaPublisher({
    kafka: kafkaOptions(config, SERVICE, logger),
    prefix: config.KAFKA_TOPIC_PREFIX,
    db,
    slot: config.CDC_SLOT,
    partitions: config.KAFKA_PARTITIONS,
    replicationFactor: config.KAFKA_REPLICATION_FACTOR,
    compression: config.KAFKA_COMPRESSION,
    traceparent: () => telemetry.traceparent(),
  });
}

export function openSignalLog(config: CdcConfig, { logger }: ServiceContext): Promise<SignalLog> {
  return openSignals({
    kafka: kafkaOptions(config, SERVICE, logger),
    prefix: config.KAFKA_TOPIC_PREFIX,
    replicationFactor: config.KAFKA_REPLICATION_FACTOR,
    writer: "cdc",
  });
}

export async function openSource(
  config: CdcConfig,
  decoder: ChangeDecoder,
  pluginOptions: PluginOptions,
  from: Lsn,
): Promise<ChangeSource> {
  const { CDC_DATABASE_URL: url, CDC_SLOT: slot } = config;
  switch (config.CDC_MODE) {
    case "stream":
      return WalSource.open({
        client: await connect(url, { replication: true }),
        slot,
        pluginOptions,
        decoder,
        from,
        maxMessages: config.CDC_BATCH_ROWS,
        lingerMs: config.CDC_BATCH_LINGER_MS,
        advance: advancing(url, slot),
      });
    case "poll":
      return new PollSource({
        client: await connect(url),
        slot,
        pluginOptions,
        decoder,
        from,
        intervalMs: config.CDC_POLL_INTERVAL_MS,
      });
  }
}
