import { expect, test } from "bun:test";
import { AssignerProtocol, type Cluster, type GroupMember, type Logger } from "kafkajs";
import { identifyingAssigner } from "./member-assigner.ts";

const PARTITIONS = 4;
const identity = { replicaId: "r", sinceMs: 1 };
const cluster = {
  findTopicPartitionMetadata: () => Array.from({ length: PARTITIONS }, (_, partitionId) => ({ partitionId })),
} as unknown as Cluster;
const members: GroupMember[] = ["b", "a"].map((memberId) => ({ memberId, memberMetadata: Buffer.alloc(0) }));

async function given(reads?: (table: { readonly table: string }, partition: number) => boolean) {
  const member = { identity, prefix: "p", ...(reads === undefined ? {} : { reads }) };
  const assigner = identifyingAssigner(member)({ cluster, groupId: "g", logger: {} as Logger });
  const all = await assigner.assign({ members, topics: ["p.public.t", "p.public.u"] });
  return Object.fromEntries(
    all.map(({ memberId, memberAssignment }) => [
      memberId,
      AssignerProtocol.MemberAssignment.decode(memberAssignment)?.assignment,
    ]),
  );
}

test("members take partitions in turn", async () => {
  const assignment = await given();
  expect(assignment["a"]).toEqual({ "p.public.t": [0, 2], "p.public.u": [0, 2] });
});

test("each has its share of those that are read, and of those that are not", async () => {
  const assignment = await given(({ table }, partition) => table === "u" || partition % 2 === 0);
  expect(assignment).toEqual({
    a: { "p.public.t": [0, 1], "p.public.u": [0, 2] },
    b: { "p.public.t": [2, 3], "p.public.u": [1, 3] },
  });
});
