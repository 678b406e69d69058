import { ShardClaim } from "@cascade/shard-router/src/claim-shard.ts";
import type { DeadLetterLog } from "@cascade/shard-router/src/dead-letter.ts";
import type { HeldKey } from "@cascade/shard-router/src/held-keys.ts";
import { letterMessage } from "@cascade/shard-router/src/kafka/dead-letter-log.ts";
import { letterOf } from "@cascade/shard-router/src/kafka/dead-letter-reader.ts";
import { Ownership, readsOf } from "@cascade/shard-router/src/ownership.ts";
import { ProgressBook } from "@cascade/shard-router/src/progress-book.ts";
import { discard, type ReplayReport, replay } from "@cascade/shard-router/src/replay.ts";
import { TableBook } from "@cascade/shard-router/src/table-book.ts";
import { deadLettersTopic } from "@cascade/shared/topic";
import type { LogMessage, SimulatedKafka } from "./kafka.ts";
import type { Network } from "./network.ts";
import { partWritten } from "./publisher.ts";
import type { SimulatedReplica } from "./replica.ts";
import { SchemaReader } from "./schema-reader.ts";
import { PREFIX } from "./slot-source.ts";

export interface LettersWorld {
  readonly kafka: SimulatedKafka;
  readonly network: Network;
  readonly replica: SimulatedReplica;
}

/** `<prefix>.dead-letters.<replica>` as a router writes it: what fails may be written, in part or whole. */
export function deadLetterLog({ kafka, network, replica }: LettersWorld): DeadLetterLog {
  const topic = deadLettersTopic(PREFIX, replica.name);
  return {
    publish: (letters) =>
      network.call("kafka", () => {
        const messages = letters.map((letter) => letterMessage(letter) as LogMessage);
        const count = network.strikes("part-written", 0.02) ? Math.floor(messages.length / 2) : messages.length;
        kafka.append(topic, messages.slice(0, count));
        if (count < messages.length) throw partWritten();
      }),
    [Symbol.asyncDispose]: async () => undefined,
  };
}

/** `dead-letters replay`, put together as its command does. */
export async function replayHeld(
  world: LettersWorld,
  selected: (key: HeldKey) => boolean,
  maxBytes: number,
): Promise<ReplayReport> {
  const { kafka, network, replica } = world;
  await using opened = await replica.open();
  await using schemas = new SchemaReader(kafka, network, () => undefined);
  const progress = new ProgressBook(opened);
  const ownership = replica.part?.ownership ?? new Ownership(null, null);
  const claim = new ShardClaim(opened, ownership);
  await claim.check();
  const tables = new TableBook({
    ...{ replica: opened, prefix: PREFIX, policy: "apply", history: schemas.history },
    matches: () => true,
    ends: async () => null,
    reads: readsOf(ownership, schemas.history),
    moved: (advance) => progress.moved(advance),
    changed: () => undefined,
    agreeToBring: (schema) => claim.agreeToBring(schema),
    isDividedAnew: (from, to, rewritten) => ownership.isDividedAnew(from, to, rewritten),
  });
  const messages = () => network.call("kafka", () => kafka.read(deadLettersTopic(PREFIX, replica.name), 0));
  const letters: Parameters<typeof replay>[0]["letters"] = async (take) => {
    for (const { key, value, headers } of await messages()) {
      const buffer = (text: string | null) => (text === null ? null : Buffer.from(text));
      const letter = letterOf({ key: buffer(key), value: buffer(value), ...(headers && { headers }) });
      if (letter !== null) take(letter);
    }
  };
  const ports = {
    replica: opened,
    replicaName: replica.name,
    prefix: PREFIX,
    ownership,
    claim,
    schemas,
    tables,
    progress,
    letters,
  };
  return await replay(ports, selected, maxBytes);
}

/** `dead-letters discard`. */
export async function discardHeld({ replica }: LettersWorld, givingUp: (key: HeldKey) => void): Promise<readonly HeldKey[]> {
  await using opened = await replica.open();
  return await discard({ replica: opened, givingUp }, () => true);
}
