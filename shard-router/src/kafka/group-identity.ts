import { CascadeError } from "@cascade/shared/errors";
import { kafkaError } from "@cascade/shared/kafka-errors";
import { type Admin, AssignerProtocol } from "kafkajs";

/** Whom a member of a group works for: told to the group with every join. */
export interface MemberIdentity {
  /** Kept in the replica itself. */
  readonly replicaId: string;
  /** When this router was started, milliseconds since 1970: a newcomer gives way. */
  readonly sinceMs: number;
}

/**
 * Rejects with GROUP_OF_ANOTHER_REPLICA (verdict refuse) when routers of another replica were in the group before: the group would share
 * one copy of the changes among two replicas, and each would silently lack what the other gets.
 */
export async function checkGroup(admin: Admin, groupId: string, own: MemberIdentity): Promise<void> {
  try {
    const { groups } = await admin.describeGroups([groupId]);
    const members = groups.flatMap(({ members: found }) => found.map(({ memberMetadata }) => identityOf(memberMetadata)));
    if (members.some((other) => other !== null && comesBefore(other, own))) throw anotherReplica(groupId);
  } catch (error) {
    throw kafkaError(error, `look at the members of group ${groupId}`);
  }
}

/** null for a member that tells none: of an older version, or still joining. */
function identityOf(metadata: Buffer): MemberIdentity | null {
  try {
    const userData = AssignerProtocol.MemberMetadata.decode(metadata)?.userData;
    const identity = JSON.parse(userData?.toString("utf8") ?? "null") as Partial<MemberIdentity> | null;
    if (typeof identity?.replicaId !== "string" || typeof identity.sinceMs !== "number") return null;
    return { replicaId: identity.replicaId, sinceMs: identity.sinceMs };
  } catch {
    return null;
  }
}

/** Of two that were started in the same millisecond, one must still give way, and only one. */
function comesBefore(other: MemberIdentity, own: MemberIdentity): boolean {
  if (other.replicaId === own.replicaId) return false;
  return other.sinceMs < own.sinceMs || (other.sinceMs === own.sinceMs && other.replicaId < own.replicaId);
}

function anotherReplica(groupId: string): CascadeError {
  return new CascadeError({
    code: "GROUP_OF_ANOTHER_REPLICA",
    verdict: "refuse",
    message: `consumer group ${groupId} already serves another replica: each of the two would get only a part of the changes`,
    advice: "give this replica a REPLICA_NAME of its own; routers with one name must lead to one and the same replica",
  });
}
