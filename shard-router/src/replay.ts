import { CascadeError, FencedError } from "@cascade/shared/errors";
import { type TableName, tableOfTopic } from "@cascade/shared/topic";
import type { ShardClaim } from "./claim-shard.ts";
import { type Partition, partitionKey } from "./event-consumer.ts";
import type { HeldKey } from "./held-keys.ts";
import { causeOf } from "./hold-plan.ts";
import { type HeldGroup, LetterPile, type ReadLetter } from "./letter-pile.ts";
import type { Ownership } from "./ownership.ts";
import { isOfTheRow } from "./poison.ts";
import type { ProgressBook } from "./progress-book.ts";
import { partitionOf, replayGroup } from "./replay-group.ts";
import type { Replica } from "./replica.ts";
import type { SchemaBook } from "./schema-book.ts";
import type { TableBook } from "./table-book.ts";

export interface ReplayPorts {
  readonly replica: Pick<Replica, "dialect" | "held" | "settle" | "progress">;
  readonly replicaName: string;
  /** KAFKA_TOPIC_PREFIX. */
  readonly prefix: string;
  readonly ownership?: Ownership;
  readonly claim?: Pick<ShardClaim, "agree">;
  readonly schemas: SchemaBook;
  readonly tables: TableBook;
  readonly progress: ProgressBook;
  /** Every dead letter of the replica that is there now, in the order they were written. */
  letters(take: (letter: ReadLetter) => void): Promise<void>;
}

export interface ReplayReport {
  readonly released: readonly HeldKey[];
  readonly failed: readonly { readonly key: HeldKey; readonly error: CascadeError }[];
}

export type Selected = (key: HeldKey) => boolean;

/** In memory at once; what is more takes another reading of the letters. */
const MAX_BYTES = 16_000_000;
/** A running router held back more of the same keys meanwhile. */
const MAX_FENCED = 100;
const FENCED_PAUSE_MS = 50;

/**
 * Applies what is held back of the selected keys, and of those that rows moved to or from, and releases them. What fails stays held, with
 * the new error; it is tried again as long as others make way (for a unique value, say). Rejects with what concerns more than a row.
 */
export async function replay(ports: ReplayPorts, selected: Selected, maxBytes = MAX_BYTES): Promise<ReplayReport> {
  const released = new Map<string, HeldKey>();
  const failed = new Map<string, { readonly key: HeldKey; readonly error: CascadeError }>();
  await ports.schemas.settle();
  for (let fenced = 0; ; ) {
    const groups = await readGroups(ports, (key) => selected(key) && !failed.has(key.id), maxBytes);
    if (groups.length === 0) return { released: [...released.values()], failed: [...failed.values()] };
    let isAgain = false;
    let hasMoved = false;
    for (const group of groups) {
      try {
        if (!(await replayOnce(ports, group))) continue;
        hasMoved = true;
        for (const key of group.keys) released.set(key.id, key);
      } catch (error) {
        if (isTransient(error) && fenced < MAX_FENCED) isAgain = true;
        else for (const key of group.keys) failed.set(key.id, { key, error: await blamed(ports, group, error) });
      }
    }
    // Of a group that is larger than what fits, a part.
    for (const { id } of await ports.replica.held()) released.delete(id);
    if (hasMoved) failed.clear();
    else if (isAgain) {
      fenced++;
      ports.tables.reread();
      await Bun.sleep(FENCED_PAUSE_MS);
    }
  }
}

/** A running router was in the way. */
const isTransient = (error: unknown): boolean =>
  error instanceof FencedError || (error instanceof CascadeError && ["REPLICA_CONFLICT", "REPLICA_LOCKED"].includes(error.code));

export interface DiscardPorts extends Pick<ReplayPorts, "replica"> {
  /** Before each is given up: afterwards nobody could say which they were, when the command is killed or the answer is lost. */
  readonly givingUp?: (key: HeldKey) => void;
}

/** Gives the keys up: their rows stay as they are. Resolves to those that were held. */
export async function discard({ replica, givingUp }: DiscardPorts, selected: Selected): Promise<readonly HeldKey[]> {
  const discarded = new Map<string, HeldKey>();
  for (let fenced = 0; ; fenced++) {
    const keys = (await replica.held()).filter(selected);
    try {
      for (const from of keys) {
        givingUp?.(from);
        await replica.settle({ statements: [], inOrder: () => [], holds: [{ kind: "release", from }] }, from.partition);
        discarded.set(from.id, from);
      }
      return [...discarded.values()];
    } catch (error) {
      if (!isTransient(error) || fenced >= MAX_FENCED) throw error;
      await Bun.sleep(FENCED_PAUSE_MS);
    }
  }
}

async function readGroups(ports: ReplayPorts, selected: Selected, maxBytes: number): Promise<readonly HeldGroup[]> {
  const held = await ports.replica.held();
  if (!held.some(selected)) return [];
  const wanted = (await groupsOf(ports, held, maxBytes)).filter(({ keys }) => keys.some(selected));
  if (wanted.every(({ letters }) => letters.length > 0)) return wanted;
  // The others' may have left no room for theirs.
  return groupsOf(
    ports,
    wanted.flatMap(({ keys }) => keys),
    maxBytes,
  );
}

async function groupsOf({ schemas, letters }: ReplayPorts, held: readonly HeldKey[], maxBytes: number) {
  const pile = new LetterPile(held, (id) => schemas.known(id), maxBytes);
  await letters((letter) => pile.add(letter));
  return pile.groups();
}

async function replayOnce(ports: ReplayPorts, group: HeldGroup): Promise<boolean> {
  const { tables, progress, replica, replicaName, schemas, prefix, ownership, claim } = ports;
  const tableOf = ({ topic }: Partition): TableName => tableOfTopic(prefix, topic) as TableName;
  const shard = { ...(ownership ? { ownership } : {}), ...(claim ? { claim } : {}) };
  const turn = {
    ...{ replicaName, dialect: replica.dialect, schemas, tables, progress, isReplay: true as const },
    ...shard,
  };
  const partitions = [partitionOf(group), ...group.letters.map(({ partition }) => partition)];
  const resume = async () => {
    for (const partition of new Map(partitions.map((one) => [partitionKey(one), one])).values()) await progress.resume(partition);
  };
  await resume();
  try {
    return await replayGroup(group, { replica, turn, tableOf });
  } catch (error) {
    if (!isOfTheRow(error)) throw error;
    // As a router does before it blames a row.
    for (const partition of partitions) tables.doubt(tableOf(partition), error);
    await resume();
    return replayGroup(group, { replica, turn, tableOf });
  }
}

/** Throws what is not about the group. */
async function blamed({ replica }: ReplayPorts, group: HeldGroup, error: unknown): Promise<CascadeError> {
  if (!(error instanceof CascadeError) || (error.verdict !== "stop-table" && error.code !== "WAITING")) throw error;
  const cause = causeOf(error);
  const holds = group.keys.map((from) => ({ kind: "change", from, to: { ...from, cause } }) as const);
  await replica.settle({ statements: [], inOrder: () => [], holds }, partitionOf(group)).catch((stale: unknown) => {
    if (!(stale instanceof FencedError)) throw stale; // a part of it was applied, or more is held: the cause is told all the same
  });
  return error;
}
