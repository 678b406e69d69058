import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import { BoundedSource } from "./bounded-source.ts";
import type { SourceMessage } from "./change-source.ts";
import type { EventPublisher } from "./event-publisher.ts";
import { limitedPublisher } from "./limited-publisher.ts";
import { LIMIT_STEP, SlotBook } from "./slot-book.ts";
import { encodeSlotRecord, SLOT_KEY, type SlotRecord } from "./slot-record.ts";
import type { SignalMessage } from "./snapshot/signal-log.ts";

const record: SlotRecord = { slot: "app", systemId: "7", timeline: 1, bound: 10n, limit: 10n, synchronized: false, repair: null };

/** Writes take until they are let through. */
function fakeLog() {
  const waiting: PromiseWithResolvers<void>[] = [];
  const written: string[] = [];
  return {
    messages: new Map([[SLOT_KEY, encodeSlotRecord(record)]]),
    written,
    write: (messages: readonly SignalMessage[]) => {
      written.push(...messages.map(({ value }) => String(value)));
      waiting.push(Promise.withResolvers<void>());
      return (waiting.at(-1) as PromiseWithResolvers<void>).promise;
    },
    letThrough: async () => {
      waiting.shift()?.resolve();
      await Bun.sleep(0);
    },
    fail: (error: Error) => waiting.shift()?.reject(error),
  };
}

function fakeSource(deliveries: readonly (readonly SourceMessage[])[] = []) {
  const done: string[] = [];
  return {
    done,
    async *messages() {
      for (const delivery of deliveries) {
        done.push("pulled");
        yield delivery;
      }
    },
    confirm: (through: Lsn) => void done.push(`confirmed ${through}`),
    [Symbol.asyncDispose]: async () => void done.push("closed"),
  };
}

test("nothing is confirmed beyond what is written down", async () => {
  const [log, source] = [fakeLog(), fakeSource()];
  await using bounded = new BoundedSource(source, new SlotBook(log), { eager: false });
  bounded.confirm(10n);
  expect(source.done).toEqual(["confirmed 10"]);
  bounded.confirm(20n);
  bounded.confirm(30n);
  expect(source.done).toEqual(["confirmed 10"]);
  expect(log.written.at(-1)).toContain('"bound":"0/14"');
  await log.letThrough();
  expect(source.done).toEqual(["confirmed 10", "confirmed 20"]);
  // The rest at the end.
  const closing = bounded[Symbol.asyncDispose]();
  await Bun.sleep(0);
  await log.letThrough();
  await closing;
  expect(source.done).toEqual(["confirmed 10", "confirmed 20", "confirmed 30", "closed"]);
});

test("a bound that cannot be written confirms nothing and ends the life", async () => {
  const [log, source] = [fakeLog(), fakeSource()];
  const book = new SlotBook(log);
  const bounded = new BoundedSource(source, book, { eager: false });
  bounded.confirm(20n);
  log.fail(new Error("fenced"));
  expect(await book.failed.catch((error: Error) => error.message)).toBe("fenced");
  expect(source.done).toEqual([]);
});

test("what is polled is confirmed before it is asked for again", async () => {
  const [log, source] = [fakeLog(), fakeSource([[], []])];
  const bounded = new BoundedSource(source, new SlotBook(log), { eager: true });
  const pulls = bounded.messages(new AbortController().signal)[Symbol.asyncIterator]();
  await pulls.next();
  bounded.confirm(20n);
  const next = pulls.next();
  await Bun.sleep(0);
  expect(source.done).toEqual(["pulled"]);
  await log.letThrough();
  await next;
  expect(source.done).toEqual(["pulled", "confirmed 20", "pulled"]);
});

test("nothing is published beyond the limit that is written down, which is raised ahead", async () => {
  const log = fakeLog();
  const published: bigint[] = [];
  const inner = {
    publish: async (events: readonly ChangeEvent[]) => {
      published.push(...events.map(({ transaction }) => transaction.commitLsn));
      return 0;
    },
  } as unknown as EventPublisher;
  const publisher = limitedPublisher(inner, new SlotBook(log));
  const events = (...lsns: readonly bigint[]): ChangeEvent[] =>
    lsns.map((commitLsn) => ({ transaction: { txId: 1, commitLsn, committedAtMs: 0 } }) as ChangeEvent);
  // The row of a copy comes last, and stands before.
  const first = publisher.publish(events(100n, 50n));
  await Bun.sleep(0);
  expect(published).toEqual([]);
  await log.letThrough();
  await first;
  expect(published).toEqual([100n, 50n]);
  await publisher.publish(events(101n));
  expect(log.written).toHaveLength(1);
  // Half of it is used up: raised on the side.
  await publisher.publish(events(100n + LIMIT_STEP / 2n + 1n));
  expect([published.length, log.written.length]).toEqual([4, 2]);
});
