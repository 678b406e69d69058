import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import type { SourceMessage } from "./change-source.ts";
import { pump } from "./pipeline.ts";

/**
 * Each port fails at each of its calls: before it did anything, after it did everything (the answer is lost), after a part, late, or so late
 * that it must be held for. Life after life, Kafka must end with every event, in order but for repetitions.
 */

type Fault = "rejects before" | "rejects after" | "rejects half-way" | "is slow" | "holds";
const FAULTS: readonly Fault[] = ["rejects before", "rejects after", "rejects half-way", "is slow", "holds"];

const TRANSACTIONS = 5;
const table = { schema: "public", table: "t", topic: "cascade.public.t", schemaId: "s" };

/** Transactions of one to five events, as the slot keeps them until they are confirmed. */
const WAL: readonly (readonly SourceMessage[])[] = Array.from({ length: TRANSACTIONS }, (_, at) => {
  const commitLsn = BigInt((at + 1) * 10);
  const changes = Array.from({ length: at + 1 }, (_unused, ordinal): SourceMessage => {
    const transaction = { txId: at, commitLsn, committedAtMs: 0 };
    const event: ChangeEvent = { op: "c", table, transaction, ordinal, lsn: 0n, key: null, before: null, after: "{}" };
    return { kind: "change", event };
  });
  return [...changes, { kind: "commit", endLsn: commitLsn + 1n, committedAtMs: 0 }];
});

const positionOf = ({ transaction, ordinal }: ChangeEvent): string => `${transaction.commitLsn}/${ordinal}`;
const ALL = WAL.flat().flatMap((message) => (message.kind === "change" ? [positionOf(message.event)] : []));

/** A slot: what is confirmed is gone, and each life begins after it. `dies` at a delivery. */
function slot(diesAt: number | null) {
  let confirmed: Lsn = 0n;
  let deliveries = 0;
  return {
    confirmed: () => confirmed,
    async *messages() {
      for (const transaction of WAL) {
        const commit = transaction.at(-1);
        if (commit?.kind !== "commit" || commit.endLsn <= confirmed) continue;
        if (deliveries++ === diesAt) throw new Error("the connection to main-db is lost");
        yield transaction;
      }
    },
    confirm: (through: Lsn) => {
      confirmed = through;
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/** A log, whose answer to call number `at` is as `fault` says. */
function brokers(fault: Fault, at: number) {
  const log: string[] = [];
  let calls = 0;
  let release: (() => void) | null = null;
  return {
    log,
    /** Ends a hold. */
    release: () => release?.(),
    check: async () => {},
    recall: () => {},
    hasPublished: async () => false,
    heartbeat: async () => {},
    announce: async () => {},
    publish: async (events: readonly ChangeEvent[]) => {
      const isNow = calls++ === at;
      if (isNow && fault === "rejects before") throw new Error("no broker");
      if (isNow && fault === "is slow") await Bun.sleep(5);
      const written = isNow && fault === "rejects half-way" ? events.slice(0, Math.ceil(events.length / 2)) : events;
      log.push(...written.map(positionOf));
      if (isNow && fault.startsWith("rejects")) throw new Error("no answer");
      if (isNow && fault === "holds")
        await new Promise<void>((resolve) => {
          release = resolve;
        });
      return 0;
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Lives until the slot is empty. Nothing may be confirmed that is not in the log by then. */
async function live(source: ReturnType<typeof slot>, publisher: ReturnType<typeof brokers>): Promise<number> {
  const limits = { maxRows: 2, maxBytes: 1_000 };
  const never = new AbortController().signal;
  for (let lives = 1; ; lives++) {
    try {
      await pump(source, publisher, limits, () => expectDurable(source.confirmed(), publisher.log), never);
      return lives;
    } catch (error) {
      if (!(error instanceof Error) || !/lost|no broker|no answer/.test(error.message)) throw error;
      expectDurable(source.confirmed(), publisher.log);
    }
  }
}

function expectDurable(confirmed: Lsn, log: readonly string[]): void {
  const owed = ALL.filter((position) => BigInt(position.split("/")[0] ?? "") < confirmed);
  expect(log).toEqual(expect.arrayContaining(owed));
}

/** Without what was there before: as a router reads it. */
function withoutReplays(log: readonly string[]): readonly string[] {
  let last = -1;
  return log.filter((position) => {
    const place = ALL.indexOf(position);
    if (place <= last) return false;
    last = place;
    return true;
  });
}

const calls = Array.from({ length: 9 }, (_, at) => at);

test.each(FAULTS)("a publisher that %s, at each of its calls, ends with every event in order", async (fault) => {
  for (const at of calls) {
    const publisher = brokers(fault, at);
    const source = slot(null);
    const lived = live(source, publisher);
    if (fault === "holds") {
      await Bun.sleep(2);
      const owed = source.confirmed();
      await Bun.sleep(2);
      // Held, nothing more is asked for and nothing confirmed.
      expect(source.confirmed()).toBe(owed);
      expect(publisher.log.length).toBeLessThanOrEqual(ALL.length);
      publisher.release();
    }
    const lives = await lived;
    expect(lives).toBe(fault.startsWith("rejects") ? 2 : 1);
    expect(withoutReplays(publisher.log)).toEqual(ALL);
    expect(source.confirmed()).toBe(BigInt(TRANSACTIONS * 10 + 1));
  }
});

test("a source that dies at each of its deliveries, while the publisher fails, too, ends with every event in order", async () => {
  for (const diesAt of [0, 1, 2, 3, 4])
    for (const at of calls) {
      const publisher = brokers("rejects after", at);
      const source = slot(diesAt);
      await live(source, publisher);
      expect(withoutReplays(publisher.log)).toEqual(ALL);
      expect(source.confirmed()).toBe(BigInt(TRANSACTIONS * 10 + 1));
    }
});
