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
  /** The batch cannot be applied now: holds its partition, or throws what concerns all partitions. */
  hold(batch: EventBatch, error: unknown): void;
}

/** Reads, turns, applies, confirms, until `signal` aborts: the batch in hand is finished. */
export async function pump(ports: RouterPorts, signal: AbortSignal): Promise<void> {
  for await (const batch of ports.consumer.batches(signal)) {
    ports.received(batch);
    try {
      await ports.traced(batch, () => applyUpToPoison(ports, batch));
    } catch (error) {
      ports.hold(batch, error);
    }
  }
}

/** A batch that one event spoils is halved until everything before that event is applied. */
async function applyUpToPoison(ports: RouterPorts, batch: EventBatch): Promise<void> {
  try {
    const step = await ports.turn(batch);
    await ports.replica.apply(step.work, step.advance);
    ports.applied(batch, step);
    ports.consumer.confirm(batch.partition, step.advance.to.nextOffset);
  } catch (error) {
    if (!isOfOneEvent(error) || batch.events.length < 2) throw error;
    for (const half of halves(batch)) await applyUpToPoison(ports, half);
  }
}
