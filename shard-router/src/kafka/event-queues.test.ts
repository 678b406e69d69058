import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { EventQueues, type FetchedEvents, type TakenEvents } from "./event-queues.ts";

const limits = { maxBatchRows: 1_000, maxBatchBytes: 1_000_000, maxBufferedBytes: 1_000_000 };

/** Events from offset `from` on with values of these sizes; reading goes on after a gap of `gap`. */
function fetched(from: number, sizes: readonly number[], { gap = 0, highWatermark = 1_000, trace = "" } = {}): FetchedEvents {
  return {
    events: sizes.map((size, i) => ({
      ...{ offset: BigInt(from + i), key: null, value: "x".repeat(size) },
      ...(trace === "" ? {} : { traceParent: traceParent(trace) }),
    })),
    sizes,
    nextOffset: BigInt(from + sizes.length + gap),
    highWatermark: BigInt(highWatermark),
  };
}

const traceParent = (trace: string, flags = "00"): string => `00-${trace}-1-${flags}`;

function takeAll(queues: EventQueues): TakenEvents[] {
  const all: TakenEvents[] = [];
  for (let taken = queues.take(); taken; taken = queues.take()) all.push(taken);
  return all;
}

const offsets = (taken: readonly TakenEvents[]) => taken.flatMap(({ events }) => events.map(({ offset }) => Number(offset)));

type Step = { readonly kind: "add"; readonly key: string; readonly sizes: readonly number[] } | { readonly kind: "take" };
const steps = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant("add" as const),
      key: fc.constantFrom("a/0", "b/0", "c/0"),
      sizes: fc.array(fc.nat(400), { minLength: 1, maxLength: 12 }),
    }),
    fc.record({ kind: fc.constant("take" as const) }),
  ),
);

describe("EventQueues", () => {
  test("what is put back comes again first, after its time, and others go on meanwhile", () => {
    const queues = new EventQueues({ ...limits, maxBatchRows: 2 });
    queues.add("a", fetched(0, [1, 1, 1, 1], { highWatermark: 9 }));
    queues.add("b", fetched(0, [1]));
    const first = queues.take(0) as TakenEvents;
    expect(queues.putBack("a", first, 10, 0)).toBe(true);
    expect(queues.take(5)?.key).toBe("b");
    expect([queues.take(5), queues.dueInMs]).toEqual([null, 5]);
    const again = queues.take(10) as TakenEvents;
    expect(again).toMatchObject({ key: "a", events: first.events, nextOffset: 2n, lagEvents: 7n });
    expect(offsets(takeAll(queues))).toEqual([2, 3]);
    expect(queues.bufferedBytes).toBe(0);
  });

  test("what is put back leaves room for what it waits for, and goes when its partition does", () => {
    const queues = new EventQueues({ ...limits, maxBufferedBytes: 4_000 });
    queues.add("a", fetched(0, [1_500]));
    const taken = queues.take() as TakenEvents;
    queues.add("a", fetched(1, [900]));
    expect(queues.putBack("a", taken, 10)).toBe(false);
    queues.drop("a");
    expect(queues.putBack("a", taken, 10)).toBe(true);
    queues.drop("a");
    expect([queues.take(), queues.bufferedBytes, queues.holds("a")]).toEqual([null, 0, false]);
    queues.add("a", fetched(0, [1]));
    expect(queues.take()?.key).toBe("a");
  });

  test("keeps each partition's order, loses nothing and holds nothing in the end", () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 900 }), (run: Step[], rows, bytes) => {
        const queues = new EventQueues({ maxBatchRows: rows, maxBatchBytes: bytes, maxBufferedBytes: 1 });
        const added = new Map<string, number>();
        const taken: TakenEvents[] = [];
        for (const step of run) {
          if (step.kind === "take") {
            const batch = queues.take();
            if (batch) taken.push(batch);
            continue;
          }
          const from = added.get(step.key) ?? 0;
          queues.add(step.key, fetched(from, step.sizes));
          added.set(step.key, from + step.sizes.length);
        }
        taken.push(...takeAll(queues));
        for (const [key, count] of added) {
          expect(offsets(taken.filter((batch) => batch.key === key))).toEqual(Array.from({ length: count }, (_, i) => i));
        }
        for (const batch of taken) {
          expect(batch.events.length).toBeGreaterThan(0);
          expect(batch.events.length).toBeLessThanOrEqual(rows);
          expect(batch.bytes).toBe(batch.events.reduce((sum, { value }) => sum + (value?.length ?? 0), 0));
          if (batch.events.length > 1) expect(batch.bytes).toBeLessThanOrEqual(bytes);
          expect(batch.nextOffset).toBe((batch.events.at(-1)?.offset ?? 0n) + 1n);
        }
        expect(queues.bufferedBytes).toBe(0);
      }),
    );
  });

  test("takes the partitions in turn", () => {
    const queues = new EventQueues({ ...limits, maxBatchRows: 1 });
    queues.add("a/0", fetched(0, [1, 1, 1]));
    queues.add("b/0", fetched(0, [1]));
    queues.add("c/0", fetched(0, [1, 1]));
    expect(takeAll(queues).map(({ key }) => key)).toEqual(["a/0", "b/0", "c/0", "a/0", "c/0", "a/0"]);
  });

  test("joins what several fetches brought", () => {
    const queues = new EventQueues(limits);
    queues.add("a/0", fetched(0, [1, 1], { trace: "one", highWatermark: 3 }));
    queues.add("a/0", fetched(2, [1], { trace: "two", highWatermark: 10, gap: 4 }));
    expect(queues.take()).toMatchObject({
      bytes: 3,
      nextOffset: 7n,
      lagEvents: 3n,
      traceParents: ["one", "two"].map((trace) => traceParent(trace)),
    });
    expect(queues.take()).toBeNull();
  });

  test("goes on within a fetch at its next event, gaps and all", () => {
    const queues = new EventQueues({ ...limits, maxBatchRows: 1 });
    const { events, ...rest } = fetched(0, [1, 1], { gap: 5 });
    queues.add("a/0", { ...rest, events: events.map((event, i) => ({ ...event, offset: BigInt(i * 10) })), nextOffset: 30n });
    expect(takeAll(queues).map(({ nextOffset }) => nextOffset)).toEqual([10n, 30n]);
  });

  test("gives an event over the limit alone", () => {
    const queues = new EventQueues({ ...limits, maxBatchBytes: 10 });
    queues.add("a/0", fetched(0, [4, 50, 4, 4]));
    expect(takeAll(queues).map(({ events }) => events.length)).toEqual([1, 1, 2]);
  });

  test("is full by what its events cost, until they are taken or dropped", () => {
    const queues = new EventQueues({ ...limits, maxBatchRows: 1, maxBufferedBytes: 1_000 });
    queues.add("a/0", fetched(0, [300, 300]));
    expect(queues.full).toBe(true);
    queues.take();
    expect(queues.full).toBe(false);
    queues.add("b/0", fetched(0, [900]));
    expect(queues.full).toBe(true);
    queues.drop("b/0");
    queues.drop("nobody/0");
    expect(queues.full).toBe(false);
    queues.drop("a/0");
    expect(queues.bufferedBytes).toBe(0);
    expect(queues.take()).toBeNull();
  });

  test("lingers between two takes of a partition, unless much is waiting of it", () => {
    const queues = new EventQueues({ ...limits, lingerMs: 5 });
    queues.add("a/0", fetched(0, [1]));
    expect(queues.take(100)?.key).toBe("a/0");
    queues.add("a/0", fetched(1, [1]));
    queues.add("b/0", fetched(0, [1]));
    expect(queues.take(102)?.key).toBe("b/0");
    expect(queues.take(102)).toBeNull();
    expect(queues.dueInMs).toBe(3);
    expect(queues.take(105)?.key).toBe("a/0");
    expect(queues.take(106)).toBeNull();
    expect(queues.dueInMs).toBeNull();
    queues.add("a/0", fetched(2, new Array(500).fill(1)));
    expect(queues.take(106)?.events).toHaveLength(500);
  });

  test("keeps a few traces at most", () => {
    const queues = new EventQueues(limits);
    for (let i = 0; i < 20; i++) queues.add("a/0", fetched(i, [1], { trace: `trace ${i}` }));
    expect(queues.take()?.traceParents).toHaveLength(8);
  });

  test("keeps a sampled trace, however many others come before it", () => {
    const queues = new EventQueues(limits);
    for (let i = 0; i < 20; i++) {
      const { events, ...rest } = fetched(i, [1]);
      const own = traceParent(`trace ${i}`, i === 15 ? "01" : "00");
      queues.add("a/0", { ...rest, events: events.map((event) => ({ ...event, traceParent: own })) });
    }
    const { traceParents = [] } = queues.take() ?? {};
    expect(traceParents).toHaveLength(8);
    expect(traceParents[0]).toBe(traceParent("trace 15", "01"));
  });

  test("of a fetch that is taken in parts each has the traces of its own events", () => {
    const queues = new EventQueues({ ...limits, maxBatchRows: 2 });
    const { events, ...rest } = fetched(0, [1, 1, 1, 1]);
    queues.add("a/0", { ...rest, events: events.map((event, i) => ({ ...event, traceParent: traceParent(`trace ${i >> 1}`) })) });
    expect(takeAll(queues).map(({ traceParents }) => traceParents)).toEqual([[traceParent("trace 0")], [traceParent("trace 1")]]);
  });
});
