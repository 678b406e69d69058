import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { Partition } from "../event-consumer.ts";
import { listTableTopics } from "./table-topics.ts";

export interface StreamEndOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** The tables that the replica takes. */
  readonly matches: (name: TableName) => boolean;
}

/** A partition, and the offset behind the last message that it has now. */
export interface PartitionEnd extends Partition {
  readonly table: TableName;
  readonly end: bigint;
}

const CONNECT_DEADLINE_MS = 20_000;

/** Where main-db's stream ends now, as the tables' topics have it. Rejects with CascadeError. */
export async function streamEnd({ kafka: options, prefix, matches }: StreamEndOptions): Promise<readonly PartitionEnd[]> {
  const sockets = new KafkaSockets();
  const admin = kafkaClient(options, sockets).admin({ retry: KAFKA_RETRY });
  try {
    await withDeadline(admin.connect(), CONNECT_DEADLINE_MS, "connect to Kafka");
    const topics = await listTableTopics(admin, prefix, matches);
    const looks = new WatermarkLooks(admin);
    const found = await Promise.all(
      topics.toSorted().map(async (topic) => {
        const partitions = await looks.ofTopic(topic);
        const table = tableOfTopic(prefix, topic) as TableName;
        return [...partitions].map(([partition, { high }]) => ({ topic, partition, table, end: high }));
      }),
    );
    return found.flat();
  } catch (error) {
    throw kafkaError(error, "read where the topics end");
  } finally {
    await sockets.disconnect(admin);
  }
}
