import type { Admin } from "kafkajs";
import { kafkaError } from "./kafka-errors.ts";

/** The offsets a partition holds: from `low` up to, but not including, `high`. */
export interface Watermarks {
  readonly low: bigint;
  readonly high: bigint;
}

export async function watermarks(
  admin: Admin,
  { topic, partition }: { readonly topic: string; readonly partition: number },
): Promise<Watermarks> {
  try {
    const offsets = await admin.fetchTopicOffsets(topic);
    const found = offsets.find((candidate) => candidate.partition === partition);
    if (!found) throw new Error(`topic ${topic} has no partition ${partition}`);
    return { low: BigInt(found.low), high: BigInt(found.high) };
  } catch (error) {
    throw kafkaError(error, `read the offsets of topic ${topic}`);
  }
}
