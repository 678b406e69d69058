import { CascadeError } from "@cascade/shared/errors";
import { kafkaError } from "@cascade/shared/kafka-errors";
import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { Admin } from "kafkajs";

/** Topics of the tables this replica takes, as Kafka has them now. */
export async function listTableTopics(admin: Admin, prefix: string, matches: (name: TableName) => boolean): Promise<string[]> {
  try {
    const topics = await admin.listTopics();
    return topics.filter((topic) => {
      const table = tableOfTopic(prefix, topic);
      return table !== null && matches(table);
    });
  } catch (error) {
    throw kafkaError(error, "list the topics");
  }
}

/**
 * A topic read from was deleted. kafkajs would stop reading all topics for a minute before it said so; a fresh consumer goes on with the
 * others at once.
 */
export function deletedTopic(topic: string): CascadeError {
  return new CascadeError({
    code: "KAFKA_UNKNOWN_TOPIC",
    verdict: "retry",
    message: `topic ${topic} was deleted`,
    advice: "nothing to do for the other tables; the changes in it that this replica had not applied are gone",
  });
}
