import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import { KAFKA_RETRY } from "./kafka.ts";

/** What the patch changes in kafkajs's admin: a look at a topic's end after its leader has moved, and one at the ends of many. */

const inside = createRequire(import.meta.url);

interface Admin {
  fetchTopicOffsets(topic: string): Promise<readonly { readonly high: string; readonly low: string }[]>;
}
const createAdmin = inside("kafkajs/src/admin") as (options: object) => Admin;
const createLogger = inside("kafkajs/src/loggers").createLogger as (options: object) => object;
const { createErrorFromCode } = inside("kafkajs/src/protocol/error") as { createErrorFromCode(code: number): Error };
const { KafkaJSConnectionError } = inside("kafkajs/src/errors") as { KafkaJSConnectionError: new (message: string) => Error };

const NOT_LEADER_FOR_PARTITION = 6;
const REASONS = [
  ["it says that it leads no more", createErrorFromCode(NOT_LEADER_FOR_PARTITION)],
  ["it is gone", new KafkaJSConnectionError("connect ECONNREFUSED")],
] as const;

test.each(REASONS)("the end of a topic is asked of its new leader, when the one known is the old one: %s", async (_, reason) => {
  let isFresh = false;
  const cluster = {
    addMultipleTargetTopics: async () => undefined,
    refreshMetadataIfNecessary: async () => undefined,
    refreshMetadata: async () => {
      isFresh = true;
    },
    findTopicPartitionMetadata: () => [{ partitionId: 0 }],
    fetchTopicsOffset: async ([{ fromBeginning }]: readonly [{ readonly fromBeginning: boolean }]) => {
      if (!isFresh) throw reason;
      return [{ topic: "t", partitions: [{ partition: 0, offset: fromBeginning ? "3" : "8" }] }];
    },
  };
  const logger = createLogger({ level: 0, logCreator: () => () => undefined });
  const admin = createAdmin({ logger, cluster, retry: { ...KAFKA_RETRY, initialRetryTime: 1 } });
  expect(await admin.fetchTopicOffsets("t")).toMatchObject([{ low: "3", high: "8" }]);
});
