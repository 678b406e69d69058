import { describe, expect, test } from "bun:test";
import { CascadeError } from "@cascade/shared/errors";
import type { Partition } from "../event-consumer.ts";
import { Assignment, type FetchControl } from "./assignment.ts";

const at = (topic: string, partition = 0): Partition => ({ topic, partition });
const key = ({ topic, partition }: Partition) => `${topic}/${partition}`;

const stopTable = new CascadeError({ code: "OFFSET_BELOW_RETENTION", verdict: "stop-table", message: "gone", advice: "" });

/** What kafkajs is told, as text, and offsets that the test gives out when it likes. */
function lab({ recheckMs = 1 } = {}) {
  const told: string[] = [];
  const dropped: string[] = [];
  const errors: string[] = [];
  const failures: unknown[] = [];
  const asked: { readonly key: string; readonly answer: PromiseWithResolvers<bigint> }[] = [];
  let stopped = false;
  const say = (text: string) => {
    if (stopped) throw new Error("the consumer is not running");
    told.push(text);
  };
  const names = (topics: readonly { topic: string; partitions: number[] }[]) =>
    topics.flatMap(({ topic, partitions }) => partitions.map((partition) => `${topic}/${partition}`)).join();
  const control: FetchControl = {
    pause: (topics) => say(`pause ${names(topics)}`),
    resume: (topics) => say(`resume ${names(topics)}`),
    seek: ({ topic, partition, offset }) => say(`seek ${topic}/${partition} ${offset}`),
  };
  const assignment = new Assignment({
    control,
    onReading: () => {},
    tableOf: (topic) => ({ schema: "public", table: topic }),
    start: async (partition) => {
      const answer = Promise.withResolvers<bigint>();
      asked.push({ key: key(partition), answer });
      return { offset: await answer.promise, applied: null };
    },
    onPartitionError: (partition, error) => errors.push(`${key(partition)} ${error.code}`),
    recheckMs,
    onFailure: (error) => failures.push(error),
    onDropped: (name) => dropped.push(name),
  });
  return {
    assignment,
    told,
    dropped,
    errors,
    failures,
    asked,
    /** Answers the latest question; resolves when the answer has been acted upon. */
    async answer(offset: bigint | CascadeError | Error): Promise<void> {
      const question = asked.at(-1);
      if (typeof offset === "bigint") question?.answer.resolve(offset);
      else question?.answer.reject(offset);
      await new Promise(setImmediate);
    },
    stop: () => {
      stopped = true;
    },
    async askedTimes(times: number): Promise<void> {
      while (asked.length < times) await new Promise(setImmediate);
    },
  };
}

describe("a partition that is given to this member", () => {
  test("is paused within the join, and read once its offset is known", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    expect(l.told).toEqual(["pause a/0"]);
    await l.answer(7n);
    expect(l.told).toEqual(["pause a/0", "seek a/0 7", "resume a/0"]);
    expect(l.assignment.get("a/0")).toMatchObject({ state: "reading", nextOffset: 7n, table: { table: "a" } });
  });

  test("and stays at the next join is sought again, as kafkajs forgets where it was, and what is queued stays", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    await l.answer(7n);
    const assigned = l.assignment.get("a/0");
    if (assigned) assigned.nextOffset = 12n;
    l.told.length = 0;
    l.assignment.joined("me", [at("a"), at("b")]);
    expect(l.told).toEqual(["seek a/0 12", "pause b/0"]);
    expect(l.asked.map((question) => question.key)).toEqual(["a/0", "b/0"]);
    expect(l.dropped).toEqual([]);
  });

  test("and stays while its offset is looked up stays paused, and is asked for once", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    l.assignment.joined("me", [at("a")]);
    expect(l.told).toEqual(["pause a/0", "pause a/0"]);
    await l.answer(3n);
    expect(l.told.slice(2)).toEqual(["seek a/0 3", "resume a/0"]);
    expect(l.asked).toHaveLength(1);
  });

  test("under a new member id begins anew: another may have read it meanwhile", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    await l.answer(7n);
    const before = l.assignment.get("a/0");
    l.assignment.joined("me again", [at("a")]);
    expect(l.dropped).toEqual(["a/0"]);
    expect(l.asked).toHaveLength(2);
    expect(before && l.assignment.isCurrent(before, before.epoch)).toBe(false);
  });
});

describe("a partition that is lost", () => {
  test("is dropped, and an offset that comes late changes nothing", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a"), at("b")]);
    l.assignment.joined("me", [at("a")]);
    expect(l.dropped).toEqual(["b/0"]);
    expect(l.assignment.list().map(({ key: name }) => name)).toEqual(["a/0"]);
    await l.answer(7n);
    expect(l.told.filter((text) => text.includes("b/0"))).toEqual(["pause b/0"]);
  });

  test("with the membership: all are dropped", () => {
    const l = lab();
    l.assignment.joined("me", [at("a"), at("a", 1)]);
    l.assignment.clear();
    expect(l.dropped).toEqual(["a/0", "a/1"]);
    expect(l.assignment.list()).toEqual([]);
  });
});

describe("holding", () => {
  test("drops what was read, pauses, and begins anew after the delay", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    await l.answer(7n);
    const assigned = l.assignment.get("a/0");
    if (!assigned) throw new Error("not assigned");
    const epoch = assigned.epoch;
    l.told.length = 0;
    l.assignment.hold(assigned, 1);
    expect(assigned.state).toBe("held");
    expect(l.dropped).toEqual(["a/0"]);
    expect(l.assignment.isCurrent(assigned, epoch)).toBe(false);
    await l.askedTimes(2);
    await l.answer(4n);
    expect(l.told).toEqual(["pause a/0", "seek a/0 4", "resume a/0"]);
  });

  test("again while its offset is looked up: the earlier answer is void", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    const assigned = l.assignment.get("a/0");
    if (!assigned) throw new Error("not assigned");
    l.assignment.hold(assigned, 1);
    l.asked[0]?.answer.resolve(99n);
    await l.askedTimes(2);
    await l.answer(4n);
    expect(l.told.filter((text) => text.startsWith("seek"))).toEqual(["seek a/0 4"]);
  });

  test("survives a join", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    await l.answer(7n);
    const assigned = l.assignment.get("a/0");
    if (!assigned) throw new Error("not assigned");
    l.assignment.hold(assigned, 1);
    l.told.length = 0;
    l.assignment.joined("me", [at("a")]);
    expect(l.told).toEqual(["pause a/0"]);
    await l.askedTimes(2);
  });
});

describe("errors", () => {
  test("of a partition are told, and it is looked at again", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    await l.answer(stopTable);
    expect(l.errors).toEqual(["a/0 OFFSET_BELOW_RETENTION"]);
    expect(l.failures).toEqual([]);
    await l.askedTimes(2);
    await l.answer(5n);
    expect(l.told.at(-1)).toBe("resume a/0");
  });

  test("of anything else end the reading", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    const error = new Error("the replica is away");
    await l.answer(error);
    expect(l.failures).toEqual([error]);
  });

  test("of a partition that was lost meanwhile concern nobody", async () => {
    const l = lab();
    l.assignment.joined("me", [at("a")]);
    l.assignment.clear();
    await l.answer(new Error("too late"));
    expect(l.failures).toEqual([]);
  });

  test("of a consumer that has just stopped are failures, not exceptions in kafkajs's event", async () => {
    const l = lab();
    l.stop();
    l.assignment.joined("me", [at("a")]);
    expect(l.failures).toHaveLength(1);
    await l.answer(7n);
    expect(l.failures).toHaveLength(2);
  });
});
