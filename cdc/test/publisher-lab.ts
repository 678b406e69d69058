import type { EventTable, OwnedEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { type KafkaLab, kafkaLab } from "@cascade/shared/testing/kafka-lab";
import { topicOf } from "@cascade/shared/topic";
import type { EventPublisher } from "../src/event-publisher.ts";
import { openKafkaPublisher, type PublisherOptions } from "../src/kafka/kafka-publisher.ts";

/** What the tests of the publisher share. */

const cleanups: (() => PromiseLike<unknown>)[] = [];
/** For `afterEach` of every file that uses the lab: a hook of this module would be the first file's alone. */
export async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
}

export async function labOn(brokers: string): Promise<KafkaLab> {
  const lab = await kafkaLab(brokers);
  cleanups.push(() => lab[Symbol.asyncDispose]());
  return lab;
}

export async function openPublisher(
  lab: Pick<KafkaLab, "kafka" | "prefix">,
  options: Partial<PublisherOptions> = {},
): Promise<EventPublisher> {
  const publisher = await openKafkaPublisher({
    kafka: lab.kafka,
    prefix: lab.prefix,
    slot: "cascade",
    db: "app",
    partitions: 1,
    replicationFactor: -1,
    compression: "none",
    ...options,
  });
  cleanups.push(() => publisher[Symbol.asyncDispose]());
  return publisher;
}

export const tableOf = (lab: KafkaLab, table = "orders"): EventTable => ({
  schema: "public",
  table,
  topic: topicOf(lab.prefix, { schema: "public", table }),
  schemaId: "5f0c2a9e1b7d4c33",
});

const transaction = { txId: 771, commitLsn: 22_781_520n, committedAtMs: 1_795_402_676_163 };

export const insert = (table: EventTable, ordinal: number, after = `{"id":${ordinal}}`): OwnedEvent => ({
  op: "c",
  table,
  transaction,
  ordinal,
  lsn: 22_781_456n,
  key: `{"id":${ordinal}}`,
  before: null,
  after,
});

export const inserts = (table: EventTable, count: number, from = 0): OwnedEvent[] =>
  Array.from({ length: count }, (_, i) => insert(table, from + i));

/** A row of about this many bytes. */
export const padded = (table: EventTable, ordinal: number, bytes: number): OwnedEvent =>
  insert(table, ordinal, `{"t":"${"x".repeat(bytes)}"}`);

export async function failure(act: Promise<unknown>): Promise<CascadeError> {
  const error = await act.then(
    () => new Error("it did not fail"),
    (reason: unknown) => reason,
  );
  if (error instanceof CascadeError) return error;
  throw error;
}
