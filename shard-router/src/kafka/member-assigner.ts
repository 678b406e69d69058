import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import { AssignerProtocol, type PartitionAssigner, PartitionAssigners } from "kafkajs";
import type { Partition } from "../event-consumer.ts";
import type { MemberIdentity } from "./group-identity.ts";

export interface AssignerOptions {
  readonly identity: MemberIdentity;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  /** See ConsumerOptions. */
  readonly reads?: (table: TableName, partition: number) => boolean;
}

/**
 * How a group's members share partitions out: in turn, as kafkajs does by itself, with this member's identity beside its topics. Those that nothing
 * is read of come last, or a member might have no others.
 */
export function identifyingAssigner({ identity, prefix, reads }: AssignerOptions): PartitionAssigner {
  const userData = Buffer.from(JSON.stringify(identity));
  return (config) => {
    const assigner = PartitionAssigners.roundRobin(config);
    const { name, version } = assigner;
    const metadata = (topics: string[]) => AssignerProtocol.MemberMetadata.encode({ version, topics, userData });
    const protocol = ({ topics }: { readonly topics: string[] }) => ({ name, metadata: metadata(topics) });
    if (reads === undefined) return { ...assigner, protocol };
    const isRead = ({ topic, partition }: Partition): boolean => {
      const table = tableOfTopic(prefix, topic);
      return table === null || reads(table, partition);
    };
    const assign: typeof assigner.assign = async ({ members, topics }) => {
      const all = topics.flatMap((topic) =>
        config.cluster.findTopicPartitionMetadata(topic).map(({ partitionId }): Partition => ({ topic, partition: partitionId })),
      );
      const given = inTurn(
        members.map(({ memberId }) => memberId),
        [...all.filter(isRead), ...all.filter((partition) => !isRead(partition))],
      );
      return [...given].map(([memberId, assignment]) => ({
        memberId,
        memberAssignment: AssignerProtocol.MemberAssignment.encode({ version, assignment, userData: Buffer.alloc(0) }),
      }));
    };
    return { ...assigner, assign, protocol };
  };
}

/** By member, the partitions of each topic. */
export function inTurn(
  memberIds: readonly string[],
  partitions: readonly Partition[],
): ReadonlyMap<string, Record<string, number[]>> {
  const members = memberIds.toSorted();
  const given = new Map<string, Record<string, number[]>>(members.map((memberId) => [memberId, {}]));
  for (const [at, { topic, partition }] of partitions.entries()) {
    const topics = given.get(members[at % members.length] ?? "");
    if (topics !== undefined) topics[topic] = [...(topics[topic] ?? []), partition];
  }
  return given;
}
