import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalKafka, startKafka } from "@cascade/local/kafka.ts";
import type { EventTable } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import { CLIENT_CLOSED } from "@cascade/shared/kafka-sockets";
import { type KafkaLab, silent } from "@cascade/shared/testing/kafka-lab";
import type { EventPublisher } from "../src/event-publisher.ts";
import { cleanUp, failure, insert, inserts, labOn, openPublisher, padded, tableOf } from "./publisher-lab.ts";

afterEach(cleanUp);

/** A broker of its own: it is killed, frozen, and takes small requests only. */
const MAX_REQUEST_BYTES = 2_000_000;
const dir = mkdtempSync(join(tmpdir(), "cascade-publisher-"));
let server: LocalKafka;
beforeAll(async () => {
  const properties = { "socket.request.max.bytes": String(MAX_REQUEST_BYTES) };
  server = await startKafka({ dir, properties, removeWhenOrphaned: true });
});
afterAll(async () => {
  await server.kill();
  rmSync(dir, { recursive: true, force: true });
});

/** What a router makes of the log: it drops every event at or before the position it has seen. */
async function applied(l: KafkaLab, table: EventTable): Promise<number[]> {
  const seen: number[] = [];
  for (const { key } of await l.read(table.topic)) {
    const id = Number(JSON.parse(String(key)).id);
    if (id > (seen.at(-1) ?? -1)) seen.push(id);
  }
  return seen;
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

describe("the brokers' limit on requests", () => {
  test("a row over it is refused, and nothing is sent", async () => {
    const l = await labOn(server.brokers);
    const table = tableOf(l);
    const error = await failure((await openPublisher(l)).publish([padded(table, 0, MAX_REQUEST_BYTES)]));
    expect(error).toMatchObject({ code: "ROW_TOO_LARGE", verdict: "fatal" });
    expect(error.message).toContain("table public.orders");
    expect(error.message).toContain(`socket.request.max.bytes of ${MAX_REQUEST_BYTES}`);
    expect(await l.read(table.topic)).toEqual([]);
  });

  test("requests are cut to it, though the topics allow more", async () => {
    const l = await labOn(server.brokers);
    const tables = ["a", "b"].map((name) => tableOf(l, name));
    const events = tables.flatMap((table) => upTo(2_500).map((id) => padded(table, id, 1_000)));
    await (await openPublisher(l)).publish(events);
    for (const table of tables) expect(await applied(l, table)).toEqual(upTo(2_500));
  });
});

describe("a broker that goes away", () => {
  test("killed in the middle: every acknowledged event is in the log, in order", async () => {
    const l = await labOn(server.brokers);
    const table = tableOf(l);
    let publisher: EventPublisher = await openPublisher(l);
    let acknowledged = 0;
    const size = 100;
    /** The service's loop: what was not acknowledged is published again, by a fresh publisher after a failure. */
    const publishOn = async (until: () => boolean) => {
      while (!until()) {
        try {
          await publisher.publish(inserts(table, size, acknowledged));
          acknowledged += size;
        } catch (error) {
          expect(error).toMatchObject({ verdict: "retry" });
          await publisher[Symbol.asyncDispose]();
          publisher = await openPublisher(l);
        }
      }
    };
    await publishOn(() => acknowledged >= 2_000);
    let restarted = false;
    const going = publishOn(() => restarted && acknowledged >= 5_000);
    await server.kill("SIGKILL");
    const atKill = acknowledged;
    await server.start();
    restarted = true;
    await going;
    await publishOn(() => acknowledged >= atKill + 2_000);
    expect(await applied(l, table)).toEqual(upTo(acknowledged));
  });

  test("frozen: rejects with retry at the deadline, closes at once, and a fresh publisher goes on", async () => {
    const l = await labOn(server.brokers);
    const table = tableOf(l);
    const silenced = Promise.withResolvers<void>();
    const debug = (_fields: object, message: string) => message.includes(CLIENT_CLOSED) && silenced.resolve();
    const kafka = { ...l.kafka, logger: { ...silent, debug } };
    const publisher = await openPublisher({ ...l, kafka }, { deadlineMs: 1_000 });
    await publisher.publish([insert(table, 0)]);
    const fresh = await openPublisher(l, { deadlineMs: 1_000 });
    server.freeze();
    try {
      const started = performance.now();
      const unavailable = { code: "KAFKA_UNAVAILABLE", verdict: "retry" };
      expect(await failure(publisher.publish([insert(table, 1)]))).toMatchObject(unavailable);
      // This one has not seen the topic yet, and asks for it first.
      expect(await failure(fresh.publish([insert(table, 1)]))).toMatchObject(unavailable);
      expect(await failure(openPublisher(l, { deadlineMs: 1_000 }))).toMatchObject(unavailable);
      await publisher[Symbol.asyncDispose]();
      // The send given up on does not go on behind the next publisher's back.
      await silenced.promise;
      expect(performance.now() - started).toBeLessThan(7_000);
    } finally {
      server.thaw();
    }
    await (await openedAtLast(l)).publish(inserts(table, 3, 1));
    expect(await applied(l, table)).toEqual(upTo(4));
  });
});

/** As lives do: a broker that has just been thawed may leave the first one without an answer. */
async function openedAtLast(l: KafkaLab): Promise<EventPublisher> {
  for (let left = 10; ; left--) {
    try {
      return await openPublisher(l);
    } catch (error) {
      if (left === 0 || !(error instanceof CascadeError) || error.verdict !== "retry") throw error;
      await Bun.sleep(200);
    }
  }
}
