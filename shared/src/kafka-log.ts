import type { logCreator } from "kafkajs";

/** What pino offers, and a test can fake. */
export interface KafkaLogger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/**
 * Sends kafkajs's log where ours goes, all of it at debug. It logs the normal life of a group, a starting broker and each of its own
 * retries at ERROR and WARN, five lines a second while a broker is away. What does not heal comes back to us as an error, with its code
 * and advice, and is told once.
 */
export const kafkaLogCreator =
  (logger: KafkaLogger): logCreator =>
  () =>
  ({ namespace, log }) => {
    const { message, timestamp: _timestamp, logger: _logger, stack: _stack, ...extra } = log;
    logger.debug({ kafka: { namespace, ...extra } }, message);
  };
