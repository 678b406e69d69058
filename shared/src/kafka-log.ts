import { type LogEntry, type logCreator, logLevel } from "kafkajs";
import { CLIENT_CLOSED } from "./kafka-sockets.ts";

/** What pino offers, and a test can fake. */
export interface KafkaLogger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/**
 * kafkajs logs the normal life of a group and of a starting broker at ERROR and WARN. These say nothing an operator could act upon:
 * what does not heal comes back to us as an error, with its code and advice.
 */
const NORMAL = [
  "The group is rebalancing",
  "rebalancing, so a rejoin is needed",
  "The coordinator is not aware of this member",
  "coordinator is not available",
  "coordinator is loading",
  "not the correct coordinator",
  "The group member's supported protocols",
  "member needs to have a valid member id",
  "Topic with this name already exists",
  "There is no leader for this topic-partition",
  "This server does not host this topic-partition",
  "Limiting retries for the idempotent producer",
  "received unsubscribed topics",
  "Consumer is not aware of all assigned partitions",
  "Topic has been updated",
  CLIENT_CLOSED,
] as const;

/** Sends kafkajs's log where ours goes. Its ERROR becomes a warning: whether it is an error is decided where it comes back to us. */
export const kafkaLogCreator =
  (logger: KafkaLogger): logCreator =>
  () =>
  (entry) => {
    const { message, timestamp: _timestamp, logger: _logger, stack: _stack, ...extra } = entry.log;
    const fields = { kafka: { namespace: entry.namespace, ...extra } };
    if (levelOf(entry) === "warn") logger.warn(fields, message);
    else logger.debug(fields, message);
  };

function levelOf({ level, log }: LogEntry): "warn" | "debug" {
  if (level !== logLevel.ERROR && level !== logLevel.WARN) return "debug";
  const text = `${log.message} ${String(log["error"] ?? "")}`;
  return NORMAL.some((normal) => text.includes(normal)) ? "debug" : "warn";
}
