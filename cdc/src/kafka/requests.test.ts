import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MESSAGE_OVERHEAD_BYTES, type PartitionMessages, planRequests, type RecordBatch, type SizedMessage } from "./requests.ts";

const message = (value: string, bytes: number): SizedMessage<string> => ({ message: value, bytes });
const values = (batch: RecordBatch<string>): readonly string[] => batch.messages;
const total = (request: readonly RecordBatch<string>[]): number => request.reduce((sum, { bytes }) => sum + bytes, 0);

const of = (topic: string, partition: number, sized: readonly SizedMessage<string>[]): PartitionMessages<string> => ({
  topic,
  partition,
  sized,
});
const nameOf = ({ topic, partition }: { readonly topic: string; readonly partition: number }): string => `${topic}/${partition}`;

/** Messages by partition, each value telling its topic and place. */
const messages = fc
  .dictionary(
    fc.constantFrom("a/0", "a/1", "a/2", "b/0", "c/0", "c/7"),
    fc.array(fc.integer({ min: 1, max: 4_000 }), { maxLength: 30 }),
  )
  .map((sizes) =>
    Object.entries(sizes).map(([name, list]) => {
      const [topic = "", partition] = name.split("/");
      return of(
        topic,
        Number(partition),
        list.map((bytes, i) => message(`${name}-${i}`, bytes)),
      );
    }),
  );
const limits = fc
  .record({
    a: fc.integer({ min: 600, max: 9_000 }),
    other: fc.integer({ min: 600, max: 9_000 }),
    request: fc.nat(30_000),
    topics: fc.integer({ min: 1, max: 5 }),
  })
  .map(({ a, other, request, topics }) => ({
    maxRequestPartitions: topics,
    maxBatchBytes: (topic: string) => (topic === "a" ? a : other),
    maxRequestBytes: Math.max(a, other) + request,
  }));

describe("planRequests", () => {
  test("keeps each partition's order and loses nothing", () => {
    fc.assert(
      fc.property(messages, limits, (given, limit) => {
        const planned = new Map<string, string[]>();
        for (const batch of planRequests(given, limit).flat()) {
          planned.set(nameOf(batch), [...(planned.get(nameOf(batch)) ?? []), ...values(batch)]);
        }
        for (const one of given) expect(planned.get(nameOf(one)) ?? []).toEqual(one.sized.map((item) => item.message));
      }),
    );
  });

  test("keeps every limit, but for a message that is over it by itself and then travels alone", () => {
    fc.assert(
      fc.property(messages, limits, (given, limit) => {
        for (const request of planRequests(given, limit)) {
          const oversized = request.filter(({ topic, bytes }) => bytes > limit.maxBatchBytes(topic));
          if (oversized.length > 0) {
            expect(request).toHaveLength(1);
            expect(oversized[0]?.messages).toHaveLength(1);
          } else expect(total(request)).toBeLessThanOrEqual(limit.maxRequestBytes);
          expect(request.length).toBeLessThanOrEqual(limit.maxRequestPartitions);
        }
      }),
    );
  });

  test("counts at least what the messages say, and puts a partition into a request once", () => {
    fc.assert(
      fc.property(messages, limits, (given, limit) => {
        for (const request of planRequests(given, limit)) {
          expect(new Set(request.map(nameOf)).size).toBe(request.length);
          for (const { messages: batch, bytes, ...place } of request) {
            const sized = given.find((one) => nameOf(one) === nameOf(place))?.sized ?? [];
            const sizes = new Map(sized.map((item) => [item.message, item.bytes]));
            expect(bytes).toBeGreaterThan(batch.reduce((sum, item) => sum + (sizes.get(item) ?? Number.NaN), 0));
          }
        }
      }),
    );
  });

  test("puts what fits into one request", () => {
    const given = [
      of("a", 0, [message("a0", 100), message("a1", 100)]),
      of("a", 1, [message("a2", 100)]),
      of("b", 0, [message("b0", 100)]),
    ];
    const planned = planRequests(given, { maxBatchBytes: () => 10_000, maxRequestBytes: 10_000, maxRequestPartitions: 9 });
    expect(planned.map((request) => request.map(values))).toEqual([[["a0", "a1"], ["a2"], ["b0"]]]);
  });

  test("sends an oversized message after what came before it and before what comes after", () => {
    const given = [of("a", 0, [message("a0", 100), message("a1", 5_000), message("a2", 100)])];
    const planned = planRequests(given, { maxBatchBytes: () => 1_000, maxRequestBytes: 10_000, maxRequestPartitions: 9 });
    expect(planned.map((request) => request.map(values))).toEqual([[["a0"]], [["a1"]], [["a2"]]]);
  });

  test("plans nothing for nothing", () => {
    const limit = { maxBatchBytes: () => 1_000, maxRequestBytes: 1_000, maxRequestPartitions: 9 };
    expect(planRequests([of("a", 0, [])], limit)).toEqual([]);
  });

  test("allows a message the longest varints of its record, and its trace header", () => {
    // length 5, attributes 1, timestamp delta 10, offset delta 5, key and value length 5 each, headers 1, name's and value's length 1.
    expect(MESSAGE_OVERHEAD_BYTES).toBeGreaterThanOrEqual(5 + 1 + 10 + 5 + 5 + 5 + 1 + 1 + 1);
  });
});
