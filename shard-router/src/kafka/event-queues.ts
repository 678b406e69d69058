import { isSampled } from "@cascade/shared/trace-context";
import type { RawEvent } from "../event-consumer.ts";

/** Consecutive events of one partition as they were fetched. */
export interface FetchedEvents {
  /** Never empty. */
  readonly events: readonly RawEvent[];
  /** Of each event's value, in bytes. */
  readonly sizes: readonly number[];
  /** Where reading goes on after them. */
  readonly nextOffset: bigint;
  readonly highWatermark: bigint;
}

export interface QueueLimits {
  readonly maxBatchRows: number;
  readonly maxBatchBytes: number;
  /** Reading ahead stops at this much; one fetched batch more may be held. */
  readonly maxBufferedBytes: number;
  /** Shortest time between two takes of one partition while little of it waits: fewer, larger batches. */
  readonly lingerMs?: number;
}

/** Of what was taken, what it takes to put it back. */
export type PutBackEvents = Pick<TakenEvents, "events" | "nextOffset" | "lagEvents">;

export interface TakenEvents {
  /** The partition's key, as given to `add`. */
  readonly key: string;
  readonly events: readonly RawEvent[];
  readonly bytes: number;
  readonly nextOffset: bigint;
  readonly lagEvents: bigint;
  readonly traceParents: readonly string[];
}

/** What an event costs in memory beside its value and what was decoded of it, which takes about as much: key, objects, strings' headers. */
const EVENT_OVERHEAD_BYTES = 200;
const MAX_TRACE_PARENTS = 8;
/** Under load there is always this much waiting of a partition, and the linger does not apply. */
const FULL_ENOUGH_EVENTS = 500;

/** The traces that events come from: the first few, and where more come, rather one that is sampled than one that is not. */
class Traces {
  readonly #sampled = new Set<string>();
  readonly #others = new Set<string>();
  #last: string | null | undefined;

  /** Runs per row: all events of one publish share one text. */
  add(traceParent: string | null | undefined): void {
    if (traceParent === this.#last) return;
    this.#last = traceParent;
    if (traceParent == null) return;
    const traces = isSampled(traceParent) ? this.#sampled : this.#others;
    if (traces.size < MAX_TRACE_PARENTS) traces.add(traceParent);
  }

  all(): readonly string[] {
    return [...this.#sampled, ...this.#others].slice(0, MAX_TRACE_PARENTS);
  }
}

interface Chunk {
  readonly fetched: FetchedEvents;
  /** Index of the first event not yet taken. */
  start: number;
}

/** What is read ahead: a queue per partition, bounded together, taken from in turn. */
export class EventQueues {
  readonly #limits: QueueLimits;
  /** Only queues that hold something, in the order of their turns. */
  readonly #queues = new Map<string, Chunk[]>();
  #bytes = 0;
  /** When a partition was last taken from. */
  readonly #takenAtMs = new Map<string, number>();
  /** Partitions whose first events were put back, and until when they stay. */
  readonly #backUntilMs = new Map<string, number>();
  #dueInMs: number | null = null;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get bufferedBytes(): number {
    return this.#bytes;
  }

  holds(key: string): boolean {
    return this.#queues.has(key);
  }

  get full(): boolean {
    return this.#bytes >= this.#limits.maxBufferedBytes;
  }

  add(key: string, fetched: FetchedEvents): void {
    for (const size of fetched.sizes) this.#bytes += size + EVENT_OVERHEAD_BYTES;
    const queue = this.#queues.get(key);
    if (queue) queue.push({ fetched, start: 0 });
    else this.#queues.set(key, [{ fetched, start: 0 }]);
  }

  /**
   * What was taken last of a partition is the first of it again, and stays for a while. False when more than half of what may be buffered is:
   * what it waits for could find no room.
   */
  putBack(key: string, taken: PutBackEvents, forMs: number, nowMs = performance.now()): boolean {
    const { events, nextOffset, lagEvents } = taken;
    // As each was counted matters only to give back what is taken here.
    const sizes = events.map(({ value }) => value?.length ?? 0);
    const bytes = sizes.reduce((sum, size) => sum + size + EVENT_OVERHEAD_BYTES, 0);
    if (this.#bytes + bytes > this.#limits.maxBufferedBytes / 2) return false;
    const chunk: Chunk = { fetched: { events, sizes, nextOffset, highWatermark: nextOffset + lagEvents }, start: 0 };
    this.#queues.set(key, [chunk, ...(this.#queues.get(key) ?? [])]);
    this.#bytes += bytes;
    this.#backUntilMs.set(key, nowMs + forMs);
    return true;
  }

  drop(key: string): void {
    for (const { fetched, start } of this.#queues.get(key) ?? []) {
      for (let i = start; i < fetched.sizes.length; i++) this.#bytes -= (fetched.sizes[i] as number) + EVENT_OVERHEAD_BYTES;
    }
    this.#queues.delete(key);
    this.#takenAtMs.delete(key);
    this.#backUntilMs.delete(key);
  }

  /** After a take that gave nothing: how long until one may give something, null when nothing is queued. */
  get dueInMs(): number | null {
    return this.#dueInMs;
  }

  /** As much as the limits allow of the partition whose turn it is; null when none has anything that is due. */
  take(nowMs = performance.now()): TakenEvents | null {
    this.#dueInMs = null;
    for (const [key, queue] of this.#queues) {
      const waitMs = this.#waitMs(key, queue, nowMs);
      if (waitMs > 0) {
        this.#dueInMs = Math.min(this.#dueInMs ?? waitMs, waitMs);
        continue;
      }
      this.#takenAtMs.set(key, nowMs);
      this.#backUntilMs.delete(key);
      this.#queues.delete(key);
      const taken = this.#takeFrom(key, queue);
      // The end of the line: every other partition gets its turn first.
      if (queue.length > 0) this.#queues.set(key, queue);
      return taken;
    }
    return null;
  }

  #waitMs(key: string, queue: readonly Chunk[], nowMs: number): number {
    const backUntilMs = this.#backUntilMs.get(key);
    if (backUntilMs !== undefined && backUntilMs > nowMs) return backUntilMs - nowMs;
    const { lingerMs = 0 } = this.#limits;
    const takenAtMs = this.#takenAtMs.get(key);
    if (lingerMs === 0 || takenAtMs === undefined || this.full) return 0;
    const waiting = queue.reduce((sum, { fetched, start }) => sum + fetched.events.length - start, 0);
    return waiting >= FULL_ENOUGH_EVENTS ? 0 : takenAtMs + lingerMs - nowMs;
  }

  #takeFrom(key: string, queue: Chunk[]): TakenEvents {
    const events: RawEvent[] = [];
    const traces = new Traces();
    let bytes = 0;
    let nextOffset = 0n;
    let highWatermark = 0n;
    for (let chunk = queue[0]; chunk; chunk = queue[0]) {
      const { fetched } = chunk;
      const end = this.#endOfTake(chunk, events.length, bytes);
      if (end === chunk.start) break;
      for (let i = chunk.start; i < end; i++) {
        const event = fetched.events[i] as RawEvent;
        events.push(event);
        traces.add(event.traceParent);
        bytes += fetched.sizes[i] as number;
      }
      highWatermark = fetched.highWatermark;
      const done = end === fetched.events.length;
      nextOffset = done ? fetched.nextOffset : (fetched.events[end] as RawEvent).offset;
      chunk.start = end;
      if (!done) break;
      queue.shift();
    }
    this.#bytes -= bytes + events.length * EVENT_OVERHEAD_BYTES;
    const lagEvents = highWatermark > nextOffset ? highWatermark - nextOffset : 0n;
    return { key, events, bytes, nextOffset, lagEvents, traceParents: traces.all() };
  }

  /** The first event always goes, however large. */
  #endOfTake({ fetched, start }: Chunk, taken: number, takenBytes: number): number {
    const { maxBatchRows, maxBatchBytes } = this.#limits;
    let end = start;
    let bytes = takenBytes;
    while (end < fetched.sizes.length && taken + end - start < maxBatchRows) {
      bytes += fetched.sizes[end] as number;
      if (bytes > maxBatchBytes && taken + end - start > 0) break;
      end++;
    }
    return end;
  }
}
