import { KAFKA_RETRY, type KafkaOptions, kafkaClient } from "@cascade/shared/kafka";
import { kafkaError, withDeadline } from "@cascade/shared/kafka-errors";
import { KafkaSockets } from "@cascade/shared/kafka-sockets";
import { WholeTopic, wholeTopicConsumer } from "@cascade/shared/kafka-whole-topic";
import { signalsTopic } from "@cascade/shared/topic";
import { z } from "zod";

/** A copy of a table that cdc has begun, or will, and has not ended. */
export interface RunningCopy {
  readonly oid: number;
  /** null: for all of them. */
  readonly replica: string | null;
}

export interface CopyStatesOptions {
  readonly kafka: KafkaOptions;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** Begins the name of the consumer group that reads: `<prefix>.<REPLICA_NAME>`. */
  readonly groupId: string;
}

const DEADLINE_MS = 30_000;

/** What cdc says of copies in `<prefix>.signals` (its `encodeState`), as far as it concerns those who wait for one. */
const stateShape = z.object({
  type: z.literal("snapshot-state"),
  oid: z.number(),
  replica: z.string().nullable(),
  status: z.string(),
});
const RUNNING: ReadonlySet<string> = new Set(["waiting", "copying"]);

/** The copies that are not done now. Rejects with CascadeError. */
export async function runningCopies({ kafka: options, prefix, groupId }: CopyStatesOptions): Promise<readonly RunningCopy[]> {
  const topic = signalsTopic(prefix);
  const sockets = new KafkaSockets();
  const kafka = kafkaClient(options, sockets);
  const admin = kafka.admin({ retry: KAFKA_RETRY });
  const consumer = wholeTopicConsumer(kafka, `${groupId}.signals`, { maxWaitMs: 200 });
  const states = new Map<string, string | null>();
  const read = async (): Promise<void> => {
    await admin.connect();
    if (!(await admin.listTopics()).includes(topic)) return;
    await consumer.connect();
    const whole = new WholeTopic(consumer, topic);
    await whole.read(({ key, value }) => void states.set(key?.toString("utf8") ?? "", value?.toString("utf8") ?? null));
    await whole.settled(admin);
  };
  try {
    await withDeadline(read(), DEADLINE_MS, `read topic ${topic} to its end`);
  } catch (error) {
    throw kafkaError(error, `read topic ${topic}`);
  } finally {
    await sockets.disconnect(consumer, admin);
  }
  return [...states.values()].flatMap((value) => (value === null ? [] : runningOf(value)));
}

/** None for a request, the slot's record, and what anybody else has written. */
export function runningOf(value: string): readonly RunningCopy[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    return [];
  }
  const { data } = stateShape.safeParse(parsed);
  return data !== undefined && RUNNING.has(data.status) ? [{ oid: data.oid, replica: data.replica }] : [];
}
