import type { CascadeError } from "@cascade/shared/errors";
import type { PoisonPolicy } from "./dead-letters.ts";
import type { EventBatch, EventConsumer } from "./event-consumer.ts";
import { atOffset, halves, isOfOneEvent } from "./poison.ts";
import type { Replica } from "./replica.ts";
import type { Step } from "./turn.ts";

export interface RouterPorts {
  readonly consumer: EventConsumer;
  readonly replica: Pick<Replica, "apply">;
  /** The batch is in hand: its events wait to be applied from now on, whatever comes. */
  received(batch: EventBatch): void;
  /** `work` in the trace that the batch comes from. */
  traced(batch: EventBatch, work: () => Promise<void>): Promise<void>;
  /** Events -> mutations -> statements. `poison`: the batch is one event, which is passed over for this error. */
  turn(batch: EventBatch, poison?: CascadeError): Promise<Step>;
  readonly poison: PoisonPolicy;
  applied(batch: EventBatch, step: Step): void;
  /** A partition may have been read to its end: what its table is to be like then. */
  atEnd(batch: EventBatch): Promise<void>;
  /** The batch cannot be applied now: holds its partition, or throws what concerns all partitions. */
  hold(batch: EventBatch, error: unknown): void;
}

/** Reads, turns, applies, confirms, until `signal` aborts: the batch in hand is finished. */
export async function pump(ports: RouterPorts, signal: AbortSignal): Promise<void> {
  for await (const batch of ports.consumer.batches(signal)) {
    try {
      if (batch.events.length === 0) {
        await ports.atEnd(batch);
        continue;
      }
      ports.received(batch);
      await ports.traced(batch, () => applyUpToPoison(ports, batch));
    } catch (error) {
      ports.hold(batch, error);
    }
  }
}

/** A batch that one event spoils is halved until everything before that event is applied, and everything after it where it may be passed over. */
async function applyUpToPoison(ports: RouterPorts, batch: EventBatch): Promise<void> {
  let rest = batch;
  try {
    for (let next: EventBatch | null = batch; next !== null; ) {
      rest = next;
      const step: Step = await ports.turn(rest);
      await applyStep(ports, rest, step);
      next = step.rest;
    }
  } catch (error) {
    if (!isOfOneEvent(error)) throw error;
    if (rest.events.length < 2) return passOver(ports, rest, error);
    for (const half of halves(rest)) await applyUpToPoison(ports, half);
  }
}

async function applyStep({ poison, replica, consumer, applied }: RouterPorts, batch: EventBatch, step: Step): Promise<void> {
  // Before the replica is past them.
  if (step.letters.length > 0) await poison.publish(step.letters);
  await replica.apply(step.work, step.advance);
  applied(batch, step);
  consumer.confirm(batch.partition, step.advance.to.nextOffset);
}

/** One event that was refused: it is tried once more, and then held back, where the policy and its error allow that. */
async function passOver(ports: RouterPorts, batch: EventBatch, error: unknown): Promise<void> {
  const { poison } = ports;
  try {
    poison.blame(batch, error);
    const again = await tried(ports, batch);
    if (again !== null) await applyStep(ports, batch, await ports.turn(batch, poison.blame(batch, again)));
  } catch (failure) {
    throw atOffset(failure, batch);
  }
}

/** null when it was applied. */
async function tried(ports: RouterPorts, batch: EventBatch): Promise<unknown> {
  try {
    await applyStep(ports, batch, await ports.turn(batch));
    return null;
  } catch (error) {
    return error;
  }
}
