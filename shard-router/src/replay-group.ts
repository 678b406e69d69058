import type { ReceivedEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { formatTableName, type TableName } from "@cascade/shared/topic";
import type { EventBatch, Partition } from "./event-consumer.ts";
import { type HeldKey, type HoldChange, isWhole, keysOfEvent, wholeRow } from "./held-keys.ts";
import type { HeldGroup, HeldLetter } from "./letter-pile.ts";
import type { Replica } from "./replica.ts";
import { type FoundBatch, type TurnOptions, turnRuns, workOf } from "./turn.ts";
import { WaitingError } from "./waiting.ts";

export interface GroupPorts {
  readonly replica: Pick<Replica, "settle">;
  /** Its progress is known of every partition that the group's letters come from. */
  readonly turn: TurnOptions;
  tableOf(partition: Partition): TableName;
}

/**
 * Applies the letters that are there in order, as a router would have, and with the last of a key releases it. Resolves to whether any
 * were there: of a large group some come later.
 */
export async function replayGroup(group: HeldGroup, { replica, turn, tableOf }: GroupPorts): Promise<boolean> {
  checkComplete(group, tableOf(partitionOf(group)));
  let letters = group.letters;
  // There may be more letters than were counted: of a router whose letters got out and whose commit was fenced.
  const unapplied = new Map(group.keys.map(({ id, events }) => [id, Math.max(events, group.found.get(id) ?? 0)]));
  let keys: ReadonlyMap<string, HeldKey> = new Map(group.keys.map((key) => [key.id, key]));
  while (letters.length > 0) {
    const [{ partition }] = letters as readonly [HeldLetter];
    const table = tableOf(partition);
    const { end, ...ready } = await turnRuns(foundOf(partition, table, ofOneTopic(letters)), turn);
    if (ready.passed.length > 0) throw new WaitingError(`${formatTableName(table)} waits for a copy, which brings all its rows`);
    const done = letters.slice(0, end);
    letters = letters.slice(end);
    const moved = [...keys.values()].map((key) => changeOf(key, done, letters, unapplied));
    const holds = moved.flatMap((change): HoldChange[] => (change === null ? [] : [change]));
    await replica.settle({ ...workOf(turn.dialect, ready), holds }, partition);
    const left = [...keys.values()].flatMap((key): HeldKey[] => {
      const change = holds.find((one) => one.kind !== "hold" && one.from === key);
      return change === undefined ? [key] : change.kind === "change" ? [change.to] : [];
    });
    keys = new Map(left.map((key) => [key.id, key]));
  }
  return group.letters.length > 0;
}

/** null: none of the letters is of the key. */
function changeOf(
  from: HeldKey,
  done: readonly HeldLetter[],
  rest: readonly HeldLetter[],
  unapplied: Map<string, number>,
): HoldChange | null {
  const count = done.filter(({ ids }) => ids.includes(from.id)).length;
  if (count === 0) return null;
  const events = (unapplied.get(from.id) ?? from.events) - count;
  unapplied.set(from.id, events);
  if (events <= 0) return { kind: "release", from };
  const [last, next] = [done.at(-1)?.event ?? from.first, rest.find(({ ids }) => ids.includes(from.id))?.event];
  // The next one may be among those that are still to be read.
  const first = next ?? { ...last, ordinal: last.ordinal + 1 };
  return {
    kind: "change",
    from,
    to: { ...from, first: { commitLsn: first.commitLsn, ordinal: first.ordinal }, events },
  };
}

/** Where its first key was held first. */
export const partitionOf = ({ keys: [first] }: HeldGroup): Partition => (first as HeldKey).partition;

/** A table that got another name goes on in another topic. */
function ofOneTopic(letters: readonly HeldLetter[]): readonly HeldLetter[] {
  const end = letters.findIndex(({ partition }) => partition.topic !== letters[0]?.partition.topic);
  return end < 0 ? letters : letters.slice(0, end);
}

function foundOf(partition: Partition, table: TableName, letters: readonly HeldLetter[]): FoundBatch {
  const raws = letters.map(({ raw }) => raw);
  const batch: EventBatch = {
    ...{ partition, table, events: raws, nextOffset: raws[0]?.offset ?? 0n },
    ...{ bytes: 0, lagEvents: 0n, traceParents: [] },
  };
  return { batch, found: { events: letters.map(heldPart), indexes: [...letters.keys()] }, poison: null };
}

/** Of a change that moved a row from one key to another, of which one is not held any more: what is left of it for the other. */
function heldPart({ event, schema, ids }: HeldLetter): ReceivedEvent {
  const keys = keysOfEvent(schema, event) ?? [];
  if (keys.length < 2 || keys.every(({ id }) => ids.includes(id))) return event;
  const [old] = keys;
  if (old !== undefined && ids.includes(old.id)) return { ...event, op: "d", after: null };
  const after = wholeRow(event.before, event.after);
  if (isWhole(schema, after)) return { ...event, op: "c", before: null, after };
  throw new CascadeError({
    code: "HELD_ROW_UNKNOWN",
    verdict: "stop-table",
    message: `a change of ${formatTableName(schema)} moved a row here from a key that is not held back any more, and left out what it did not change`,
    advice: "discard the key, and copy its row again (`cdc snapshot` with --from and --to)",
  });
}

function checkComplete({ keys, found }: HeldGroup, table: TableName): void {
  const missing = keys.reduce((sum, { id, events }) => sum + Math.max(0, events - (found.get(id) ?? 0)), 0);
  if (missing === 0) return;
  throw new CascadeError({
    code: "DEAD_LETTERS_LOST",
    verdict: "stop-table",
    message: `${missing} changes that are held back of ${formatTableName(table)} are not in the dead letters' topic any more, or their schema is not known`,
    advice: "discard the keys, and copy their rows again (`cdc snapshot` with --from and --to)",
  });
}
