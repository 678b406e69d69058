import { expect, test } from "bun:test";
import type { ErrorCode } from "@cascade/shared/error-codes";
import { CascadeError, FencedError } from "@cascade/shared/errors";
import { STOP } from "./dead-letters.ts";
import type { EventBatch, Partition } from "./event-consumer.ts";
import { pump, type RouterPorts } from "./pipeline.ts";
import { halves } from "./poison.ts";

/** Faults at the ports: an offset is confirmed only past what the replica has committed. */

const partition = { topic: "cascade.public.t", partition: 0 };

function batch(offsets: readonly number[]): EventBatch {
  const events = offsets.map((offset) => ({ offset: BigInt(offset), key: null, value: String(offset) }));
  const table = { schema: "public", table: "t" };
  return { partition, table, events, nextOffset: BigInt(offsets.at(-1) ?? 0) + 1n, bytes: 0, lagEvents: 5n, traceParents: [] };
}

const error = (code: ErrorCode) => new CascadeError({ code, verdict: "stop-table", message: code, advice: "" });

function ports(batches: readonly EventBatch[], failure: (offsets: readonly number[]) => unknown) {
  const log: string[] = [];
  const fake: RouterPorts = {
    consumer: {
      async *batches(signal) {
        for (const next of batches) {
          if (signal.aborted) return;
          yield next;
        }
      },
      confirm: (_: Partition, nextOffset: bigint) => void log.push(`confirm ${nextOffset}`),
      hold: () => {},
      lookAtEnd: () => {},
      ends: async () => null,
      assigned: () => [partition],
      [Symbol.asyncDispose]: async () => {},
    },
    replica: {
      apply: async (_, { to }) => void log.push(`commit ${to.nextOffset}`),
    },
    received: () => {},
    poison: STOP,
    traced: (_, work) => work(),
    turn: async (given) => {
      const failed = failure(given.events.map(({ offset }) => Number(offset)));
      if (failed) throw failed;
      const to = { nextOffset: given.nextOffset, commitLsn: 1n, ordinal: 0, sourceCommittedAtMs: 0 };
      return {
        work: { statements: [], inOrder: () => [] },
        advance: { partition, from: null, to },
        events: [],
        oldestAtMs: null,
        letters: [],
        rest: null,
      };
    },
    atEnd: async () => void log.push("end"),
    applied: (given) => void log.push(`applied ${given.events.length}`),
    hold: (given, failed) => {
      if (!(failed instanceof CascadeError) || failed.verdict === "retry") throw failed;
      log.push(`hold ${failed.code}`);
      return given;
    },
  };
  return { fake, log };
}

const never = new AbortController().signal;

test("each batch is committed, then confirmed", async () => {
  const { fake, log } = ports([batch([0, 1]), batch([2])], () => null);
  await pump(fake, never);
  expect(log).toEqual(["commit 2", "applied 2", "confirm 2", "commit 3", "applied 1", "confirm 3"]);
});

test("everything before a poisoned event is applied, nothing from it on", async () => {
  const { fake, log } = ports([batch([0, 1, 2, 3, 4, 5, 6, 7])], (offsets) =>
    offsets.includes(5) ? error("MALFORMED_MESSAGE") : null,
  );
  await pump(fake, never);
  expect(log).toEqual(["commit 4", "applied 4", "confirm 4", "commit 5", "applied 1", "confirm 5", "hold MALFORMED_MESSAGE"]);
});

test("a schema that the replica's table does not fit yet holds the rows from its first on, not those before it", async () => {
  const { fake, log } = ports([batch([0, 1, 2, 3])], (offsets) =>
    offsets.some((offset) => offset >= 3) ? error("REPLICA_TABLE_MISMATCH") : null,
  );
  await pump(fake, never);
  expect(log.filter((line) => line.startsWith("commit"))).toEqual(["commit 2", "commit 3"]);
  expect(log.at(-1)).toBe("hold REPLICA_TABLE_MISMATCH");
});

test("what is wrong with the whole table is not halved, and the other batches go on", async () => {
  const { fake, log } = ports([batch([0, 1]), batch([10])], (offsets) => (offsets.includes(0) ? error("REPLICA_LOCKED") : null));
  await pump(fake, never);
  expect(log).toEqual(["hold REPLICA_LOCKED", "commit 11", "applied 1", "confirm 11"]);
});

test("what concerns all tables ends the life, unconfirmed", async () => {
  const { fake, log } = ports([batch([0]), batch([1])], () => new FencedError("t", 0));
  await expect(pump(fake, never)).rejects.toThrow("moved by another router");
  expect(log).toEqual([]);
});

test("a commit whose answer was lost is not confirmed", async () => {
  const { fake, log } = ports([batch([0])], () => null);
  const lost = {
    ...fake,
    replica: {
      apply: () =>
        Promise.reject(new CascadeError({ code: "REPLICA_UNAVAILABLE", verdict: "retry", message: "gone", advice: "" })),
    },
  };
  await expect(pump(lost, never)).rejects.toThrow("gone");
  expect(log).toEqual([]);
});

test("asked to stop it finishes the batch in hand", async () => {
  const stop = new AbortController();
  const { fake, log } = ports([batch([0]), batch([1])], () => {
    stop.abort();
    return null;
  });
  await pump(fake, stop.signal);
  expect(log).toEqual(["commit 1", "applied 1", "confirm 1"]);
});

test("halves are the whole, with the offset between them and the lag of what is left", () => {
  const [first, second] = halves(batch([3, 4, 9]));
  expect(first).toMatchObject({ nextOffset: 4n, lagEvents: 7n });
  expect(second).toMatchObject({ nextOffset: 10n, lagEvents: 5n });
  expect([...first.events, ...second.events].map(({ offset }) => offset)).toEqual([3n, 4n, 9n]);
  expect(() => halves(batch([1]))).toThrow();
});
