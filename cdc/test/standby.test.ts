import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { testKafka } from "@cascade/local/servers.ts";
import type { CascadeError } from "@cascade/shared/errors";
import { openSignals } from "../src/kafka/signals.ts";
import { connect } from "../src/postgres/session.ts";
import { SlotHolder, StandbyWatch } from "../src/postgres/slot-holder.ts";
import type { SignalLog } from "../src/snapshot/signal-log.ts";
import { cleanUp as cleanUpKafka, failure, labOn } from "./publisher-lab.ts";
import { cleanUp, cleanups, lab } from "./source-lab.ts";

/** Who holds a slot, and what is left of a former holder. */

setDefaultTimeout(60_000);
afterEach(cleanUp);
afterEach(cleanUpKafka);

test("one holds the slot; a standby ends a holder that has not moved for ten looks, and none that beats", async () => {
  const { url, slot } = await lab("");
  const said: string[] = [];
  const standby = new StandbyWatch(slot, (message) => said.push(message));
  const holder = await SlotHolder.take(url, slot, standby);
  const lost = holder.lost.catch((error: CascadeError) => error.code);
  const refused = async () => {
    const error = await SlotHolder.take(url, slot, standby).catch((reason: CascadeError) => reason);
    if (error instanceof SlotHolder) throw new Error("two hold the slot");
    expect(error.code).toBe("SLOT_ACTIVE");
  };
  for (let look = 0; look < 13; look++) {
    await refused();
    await Bun.sleep(1_000);
  }
  expect([said, await Promise.race([lost, "held"])]).toEqual([[], "held"]);
  await holder[Symbol.asyncDispose]();

  const frozen = await connect(url);
  cleanups.push(() => frozen.end());
  const ended = new Promise<void>((resolve) => frozen.once("end", resolve));
  await frozen.query("SELECT pg_advisory_lock(x'63617363'::int, hashtext($1))", [slot]);
  const since = performance.now();
  while (said.length === 0) {
    await refused();
    await Bun.sleep(1_000);
  }
  await ended;
  expect(performance.now() - since).toBeGreaterThan(10_000);
  const next = await SlotHolder.take(url, slot, standby);
  expect(said).toEqual([expect.stringContaining("has not moved for 10 s")]);
  await next[Symbol.asyncDispose]();
});

test("a holder whose session was ended knows", async () => {
  const { url, slot, sql } = await lab("");
  await using holder = await SlotHolder.take(url, slot, new StandbyWatch(slot, () => undefined));
  await sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = x'63617363'::int");
  expect((await failure(holder.lost)).code).toBe("MAIN_DB_AWAY");
});

test("what a former cdc still writes to the signals topic is refused, and read by nobody", async () => {
  const l = await labOn((await testKafka()).brokers);
  const open = async (writer: "cdc" | "anybody"): Promise<SignalLog> => {
    const log = await openSignals({ kafka: l.kafka, prefix: l.prefix, replicationFactor: -1, writer });
    cleanups.push(() => Promise.resolve(log[Symbol.asyncDispose]()));
    return log;
  };
  const first = await open("cdc");
  await first.write([{ key: "a", value: "first" }]);
  const second = await open("cdc");
  expect((await failure(first.write([{ key: "a", value: "late" }]))).code).toBe("CDC_FENCED");
  await second.write([{ key: "b", value: "second" }]);
  // Requests are anybody's, and fence nobody.
  await (await open("anybody")).write([{ key: "c", value: "asked" }]);
  await second.write([{ key: "d", value: null }]);
  expect(Object.fromEntries((await open("anybody")).messages)).toEqual({ a: "first", b: "second", c: "asked" });
});
