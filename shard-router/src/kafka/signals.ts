import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { encodeSnapshotRequest } from "@cascade/shared/snapshot-request";
import { formatTableName, signalsTopic } from "@cascade/shared/topic";
import type { AskedCopy, CopyRequests } from "../copy-requests.ts";

export interface SignalsOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** REPLICA_NAME. */
  readonly replica: string;
}

const DEADLINE_MS = 20_000;
/** Some 300 bytes each; a broker takes a megabyte at once unless it is told otherwise. */
const MOST_AT_ONCE = 1_000;

export const requestMessages = (copies: readonly AskedCopy[], replica: string) =>
  copies.map(({ copy, table }) => ({
    key: copy,
    value: encodeSnapshotRequest({ type: "snapshot", tables: [formatTableName(table)], oid: table.oid, replica }),
  }));

/** Requests go by `<prefix>.signals` (contract.md §3), each over a connection of its own: they are rare. */
export function signals({ kafka: options, prefix, replica }: SignalsOptions): CopyRequests {
  const topic = signalsTopic(prefix);
  return {
    ask: async (copies) => {
      const sockets = new KafkaSockets();
      const producer = kafkaClient(options, sockets).producer({ allowAutoTopicCreation: false, retry: KAFKA_RETRY });
      const messages = requestMessages(copies, replica);
      const send = async () => {
        await producer.connect();
        for (let at = 0; at < messages.length; at += MOST_AT_ONCE)
          await producer.send({ topic, acks: -1, messages: messages.slice(at, at + MOST_AT_ONCE) });
      };
      try {
        await withDeadline(send(), DEADLINE_MS, `write to topic ${topic}`);
      } catch (error) {
        throw kafkaError(error, `write to topic ${topic}`);
      } finally {
        await sockets.disconnect(producer);
      }
    },
  };
}
