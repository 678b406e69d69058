import type { EventBatch, EventConsumer } from "./event-consumer.ts";
import { halves, isOfOneEvent } from "./poison.ts";
import type { Replica } from "./replica.ts";
import type { Step } from "./turn.ts";

export interface RouterPorts {
  readonly consumer: EventConsumer;
  readonly replica: Pick<Replica, "apply">;
  /** The batch is in hand: its events wait to be applied from now on, whatever comes. */
  received(batch: EventBatch): void;
  /** `work` in the trace that the batch comes from. */
  traced(batch: EventBatch, work: () => Promise<void>): Promise<void>;
  /** Events -> mutations -> statements. */
  turn(batch: EventBatch): Promise<Step>;
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

/** A batch that one event spoils is halved until everything before that event is applied. */
async function applyUpToPoison(ports: RouterPorts, batch: EventBatch): Promise<void> {
  let rest = batch;
  try {
    for (let next: EventBatch | null = batch; next !== null; ) {
      rest = next;
      const step: Step = await ports.turn(rest);
      await ports.replica.apply(step.work, step.advance);
      ports.applied(rest, step);
      ports.consumer.confirm(rest.partition, step.advance.to.nextOffset);
      next = step.rest;
    }
  } catch (error) {
    if (!isOfOneEvent(error) || rest.events.length < 2) throw error;
    for (const half of halves(rest)) await applyUpToPoison(ports, half);
  }
}
