import { afterEach, expect, test } from "bun:test";
import type { CascadeError } from "@cascade/shared/errors";
import type { Lsn } from "@cascade/shared/lsn";
import { parseTableFilter } from "@cascade/shared/table-pattern";
import { Catalog } from "../src/postgres/catalog.ts";
import { connect } from "../src/postgres/session.ts";
import { slotState } from "../src/postgres/slot.ts";
import { encodeSlotRecord, SLOT_KEY } from "../src/slot-record.ts";
import { SlotStart } from "../src/slot-start.ts";
import { MemoryLog } from "./snapshot-lab.ts";
import { cleanUp, cleanups, type Lab, lab } from "./source-lab.ts";

afterEach(cleanUp);

/** A start that finds the slot where it was left. */
async function started({ url, slot }: Lab) {
  const client = await connect(url);
  cleanups.push(() => client.end());
  const at = (await slotState(client, slot))?.confirmedLsn as Lsn;
  const record = { slot, systemId: null, timeline: 1, bound: at, limit: at, heartbeat: null, synchronized: false, repair: null };
  const log = new MemoryLog();
  log.messages.set(SLOT_KEY, encodeSlotRecord(record));
  const config = { CDC_DATABASE_URL: url, CDC_SLOT: slot, CDC_ON_SLOT_LOST: "stop" } as const;
  return { at, start: await SlotStart.judge({ config, client, log, hasPublished: true, warn: () => undefined }) };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "none",
    (error: CascadeError) => `${error.code}: ${error.verdict}`,
  );

test("a slot that somebody makes anew while a life begins is judged by the next one, before anything is written down of it", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const { at, start } = await started(l);
  expect(await start.from()).toBe(at);
  expect(await codeOf(start.checkBegun(at))).toBe("none");
  await l.sql("INSERT INTO t VALUES (1)");
  await l.sql(`SELECT pg_drop_replication_slot('${l.slot}')`);
  expect(await codeOf(start.from())).toBe("SLOT_LOST: retry");
  await l.sql(`SELECT pg_create_logical_replication_slot('${l.slot}', 'wal2json')`);
  expect(await codeOf(start.from())).toBe("SLOT_MOVED: retry");
  expect(await codeOf(start.checkBegun(at))).toBe("SLOT_MOVED: retry");
});

/** A start that makes its slot: the first, or one that repairs. */
async function making({ url, slot }: Lab, repairs: boolean) {
  const client = await connect(url);
  const watcher = await connect(url);
  cleanups.push(
    () => client.end(),
    () => watcher.end(),
  );
  const log = new MemoryLog();
  const record = { slot, systemId: null, timeline: 1, bound: 1n, limit: 1n, heartbeat: null, synchronized: false };
  const repair = { reason: "it was lost", since: "2026-11-28" };
  if (repairs) log.messages.set(SLOT_KEY, encodeSlotRecord({ ...record, repair }));
  const config = { CDC_DATABASE_URL: url, CDC_SLOT: slot, CDC_ON_SLOT_LOST: "resnapshot" } as const;
  const start = await SlotStart.judge({ config, client, log, hasPublished: repairs, warn: () => undefined });
  const catalog = new Catalog(client, parseTableFilter("public.*"), "cascade");
  const make = () => start.make({ client, watcher, catalog, waiting: () => undefined, warn: () => undefined });
  return { client, start, make };
}

test("a slot that was made is the one that is read", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  await l.sql(`SELECT pg_drop_replication_slot('${l.slot}')`);
  const { start, make } = await making(l, false);
  const { slot, begin } = await make();
  expect(slot).toBe("created");
  expect(await start.from()).toBe(begin as Lsn);
  await l.sql("INSERT INTO t VALUES (1)");
  await l.sql(`SELECT pg_drop_replication_slot('${l.slot}')`);
  await l.sql(`SELECT pg_create_logical_replication_slot('${l.slot}', 'wal2json')`);
  expect(await codeOf(start.from())).toBe("SLOT_MOVED: retry");
});

test("a slot that somebody makes in the middle of a repair is not gone on with: nobody knows what the tables were like where it begins", async () => {
  const l = await lab("CREATE TABLE t (id int PRIMARY KEY)");
  const { client, make } = await making(l, true);
  const query = client.query.bind(client);
  const meddled = async (...given: Parameters<typeof query>) => {
    const answer = await query(...given);
    if (String(given[0]).includes("pg_drop_replication_slot"))
      await l.sql(`SELECT pg_create_logical_replication_slot('${l.slot}', 'wal2json')`);
    return answer;
  };
  Object.assign(client, { query: meddled });
  expect(await codeOf(make())).toBe("SLOT_MOVED: retry");
  Object.assign(client, { query });
  expect((await make()).slot).toBe("created");
});
