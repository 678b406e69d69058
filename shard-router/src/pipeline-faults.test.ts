import { expect, test } from "bun:test";
import { CascadeError, FencedError } from "@cascade/shared/errors";
import { STOP } from "./dead-letters.ts";
import type { EventBatch, Partition } from "./event-consumer.ts";
import { pump, type RouterPorts } from "./pipeline.ts";
import { ProgressBook } from "./progress-book.ts";
import type { Advance, Progress } from "./replica.ts";

/**
 * Each port fails at each of its calls: before it did anything, after it did everything (the answer is lost), late, or so late that it must
 * be held for. Life after life, the replica must end with every event once, in order.
 */

type Fault = "rejects before" | "rejects after" | "is slow" | "holds" | "is fenced";
const FAULTS: readonly Fault[] = ["rejects before", "rejects after", "is slow", "holds", "is fenced"];

const partition: Partition = { topic: "cascade.public.t", partition: 0 };
const table = { schema: "public", table: "t" };
const END = 11;
const ALL = Array.from({ length: END }, (_, offset) => offset);

const away = (): CascadeError => new CascadeError({ code: "REPLICA_UNAVAILABLE", verdict: "retry", message: "gone", advice: "" });

/** A table without a key, which shows what is applied twice, and the progress beside it. Its answer to commit number `at` is as `fault` says. */
function replicaOf(fault: Fault, at: number) {
  const rows: number[] = [];
  let progress: Progress | null = null;
  let calls = 0;
  let release: (() => void) | null = null;
  return {
    rows,
    release: () => release?.(),
    progress: async () => progress,
    apply: async (offsets: readonly number[], { from, to }: Advance) => {
      const isNow = calls++ === at;
      if (isNow && fault === "rejects before") throw away();
      if (isNow && fault === "is slow") await Bun.sleep(3);
      if ((from?.nextOffset ?? null) !== (progress?.nextOffset ?? null)) throw new FencedError(partition.topic, 0);
      rows.push(...offsets);
      progress = to;
      if (isNow && fault === "rejects after") throw away();
      // As if another router had done it, and this one came too late.
      if (isNow && fault === "is fenced") throw new FencedError(partition.topic, 0);
      if (isNow && fault === "holds")
        await new Promise<void>((resolve) => {
          release = resolve;
        });
    },
  };
}

interface Life {
  readonly replica: ReturnType<typeof replicaOf>;
  readonly confirmed: bigint[];
  /** Kafka fails at this batch of the first life. */
  readonly kafkaFailsAt: number | null;
}

/** Delivers from where the replica says, a few at a time, and again from there when it is held. */
function portsOf({ replica, confirmed, kafkaFailsAt }: Life, life: number): RouterPorts {
  const book = new ProgressBook(replica);
  let heldNow = false;
  const work = new Map<object, readonly number[]>();
  return {
    consumer: {
      async *batches() {
        let next = Number((await book.resume(partition)) ?? 0n);
        for (let delivered = 0; next < END; delivered++) {
          if (life === 1 && delivered === kafkaFailsAt) throw away();
          const offsets = ALL.slice(next, next + 1 + (delivered % 3));
          const events = offsets.map((offset) => ({ offset: BigInt(offset), key: null, value: String(offset) }));
          const nextOffset = BigInt(offsets.at(-1) ?? 0) + 1n;
          const batch: EventBatch = { partition, table, events, nextOffset, bytes: 0, lagEvents: 0n, traceParents: [] };
          yield batch;
          next = heldNow ? Number((await book.resume(partition)) ?? 0n) : Number(nextOffset);
          heldNow = false;
        }
      },
      confirm: (_: Partition, nextOffset: bigint) => void confirmed.push(nextOffset),
      hold: () => {},
      lookAtEnd: () => {},
      ends: async () => null,
      assigned: () => [partition],
      [Symbol.asyncDispose]: async () => {},
    },
    replica: { apply: (given, advance) => replica.apply(work.get(given) ?? [], advance) },
    poison: STOP,
    received: () => {},
    traced: (_, apply) => apply(),
    turn: async ({ events, nextOffset }) => {
      const given = { statements: [], inOrder: () => [] };
      work.set(
        given,
        events.map(({ offset }) => Number(offset)),
      );
      const to = { nextOffset, commitLsn: nextOffset, ordinal: 0, sourceCommittedAtMs: 0 };
      return {
        work: given,
        advance: { partition, from: book.current(partition), to },
        events: [],
        oldestAtMs: null,
        letters: [],
        rest: null,
      };
    },
    atEnd: async () => {},
    applied: (_, { advance }) => book.moved(advance),
    hold: (_, error) => {
      if (!(error instanceof FencedError)) throw error;
      heldNow = true;
    },
  };
}

async function live(life: Life): Promise<number> {
  const never = new AbortController().signal;
  for (let lives = 1; ; lives++) {
    try {
      await pump(portsOf(life, lives), never);
      return lives;
    } catch (error) {
      if (!(error instanceof CascadeError) || error.code !== "REPLICA_UNAVAILABLE") throw error;
    }
  }
}

const calls = [0, 1, 2, 3, 4];

test.each(FAULTS)("a replica that %s, at each of its commits, ends with every event once", async (fault) => {
  for (const at of calls) {
    const replica = replicaOf(fault, at);
    const confirmed: bigint[] = [];
    const lived = live({ replica, confirmed, kafkaFailsAt: null });
    if (fault === "holds") {
      await Bun.sleep(2);
      const rows = replica.rows.length;
      await Bun.sleep(2);
      // One commit at a time, and what has no answer is not confirmed.
      expect(replica.rows.length).toBe(rows);
      expect(confirmed.at(-1) ?? 0n).toBeLessThan(BigInt(rows));
      replica.release();
    }
    expect(await lived).toBe(fault.startsWith("rejects") ? 2 : 1);
    expect(replica.rows).toEqual(ALL);
    expect(confirmed.toSorted((one, other) => Number(one - other))).toEqual(confirmed);
  }
});

test("Kafka fails at each batch, while the answer of a commit is lost, too: every event once", async () => {
  for (const kafkaFailsAt of calls)
    for (const at of calls) {
      const replica = replicaOf("rejects after", at);
      await live({ replica, confirmed: [], kafkaFailsAt });
      expect(replica.rows).toEqual(ALL);
    }
});
