import { kafkaOptions } from "@cascade/shared/testing/kafka-lab";
import { openKafkaConsumer } from "../src/kafka/kafka-consumer.ts";

/** A router in a process of its own, for a test to freeze: `bun consumer-child.ts BROKERS PREFIX`. Prints what it holds, at every change. */
const [brokers = "", prefix = ""] = process.argv.slice(2);
const consumer = await openKafkaConsumer({
  kafka: kafkaOptions(brokers),
  prefix,
  groupId: `${prefix}.replica`,
  identity: { replicaId: "one", sinceMs: 0 },
  matches: () => true,
  resume: async () => null,
  limits: { maxBatchRows: 1_000, maxBatchBytes: 1_000_000, maxBufferedBytes: 4_000_000 },
  topicPollMs: 100,
  onPartitionError: () => {},
  recheckMs: 1_000,
  sessionTimeoutMs: 2_000,
});

let before = "";
setInterval(() => {
  const held = consumer.assigned().map(({ topic }) => topic);
  const now = JSON.stringify(held.sort());
  if (now !== before) process.stdout.write(`${now}\n`);
  before = now;
}, 20);
