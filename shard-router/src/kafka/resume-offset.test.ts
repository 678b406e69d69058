import { describe, expect, test } from "bun:test";
import type { CascadeError } from "@cascade/shared/errors";
import { WatermarkLooks } from "@cascade/shared/kafka-watermarks";
import type { Admin } from "kafkajs";
import { LostLogs, logRestarted, startOffset } from "./resume-offset.ts";

const partition = { topic: "t", partition: 0 };

/** Answers given one after the other, the last one for ever. */
function looksOf(...answers: readonly (readonly [low: number, high: number])[]): WatermarkLooks {
  const left = [...answers];
  const fetchOffsetsOfTopics = async (topics: readonly string[]) => {
    const [low, high] = (left.length > 1 ? left.shift() : left[0]) ?? [0, 0];
    const partitions = [{ partition: 0, offset: String(high), low: String(low), high: String(high) }];
    return topics.map((topic) => ({ topic, partitions }));
  };
  return new WatermarkLooks({ fetchOffsetsOfTopics } as unknown as Admin);
}

const failure = (act: Promise<unknown>): Promise<unknown> => act.catch((error: unknown) => error);

describe("startOffset", () => {
  test("is what is remembered, or the beginning", async () => {
    expect(await startOffset(looksOf([0, 10]), partition, 7n)).toEqual({ offset: 7n, low: 0n });
    expect(await startOffset(looksOf([0, 10]), partition, 10n)).toEqual({ offset: 10n, low: 0n });
    expect(await startOffset(looksOf([0, 10]), partition, null)).toEqual({ offset: 0n, low: 0n });
    expect(await startOffset(looksOf([5, 10]), partition, 5n)).toEqual({ offset: 5n, low: 5n });
  });

  test("refuses what Kafka has no more", async () => {
    const gone = { code: "OFFSET_BELOW_RETENTION", verdict: "stop-table" };
    expect(await failure(startOffset(looksOf([5, 10]), partition, 4n))).toMatchObject(gone);
    expect(await failure(startOffset(looksOf([5, 10]), partition, null))).toMatchObject(gone);
  });

  test("gives a leader that was just elected time to find its end", async () => {
    expect(await startOffset(looksOf([0, 5], [0, 10]), partition, 7n)).toEqual({ offset: 7n, low: 0n });
  });
});

describe("LostLogs", () => {
  const error = logRestarted(partition, 10n);
  const thrown = (act: () => void): CascadeError | null => {
    try {
      act();
      return null;
    } catch (caught) {
      return caught as CascadeError;
    }
  };

  test("keep a partition stopped until its replica's progress is moved", () => {
    const lost = new LostLogs();
    expect(thrown(() => lost.check("t/0", 10n))).toBeNull();
    lost.note("t/0", error);
    for (let look = 0; look < 3; look++) expect(thrown(() => lost.check("t/0", 10n))).toBe(error);
    expect(thrown(() => lost.check("u/0", 10n))).toBeNull();
    expect(thrown(() => lost.check("t/0", 3n))).toBeNull();
    expect(thrown(() => lost.check("t/0", 10n))).toBeNull();
  });

  test("count from what the replica remembers once nothing is in hand", () => {
    const lost = new LostLogs();
    lost.note("t/0", error);
    expect(thrown(() => lost.check("t/0", 8n))).toBe(error);
    // Told again at every look.
    lost.note("t/0", error);
    expect(thrown(() => lost.check("t/0", 8n))).toBe(error);
    expect(thrown(() => lost.check("t/0", null))).toBeNull();
  });

  test("go on at the first look when the progress was moved before it", () => {
    const lost = new LostLogs();
    lost.note("t/0", error, 10n);
    expect(thrown(() => lost.check("t/0", 0n))).toBeNull();
  });

  test("are only those whose end is lost", () => {
    const lost = new LostLogs();
    lost.note("t/0", Object.assign(Object.create(error), { code: "OFFSET_BELOW_RETENTION" }));
    expect(thrown(() => lost.check("t/0", 1n))).toBeNull();
  });
});
