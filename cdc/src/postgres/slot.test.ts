import { expect, test } from "bun:test";
import type pg from "pg";
import type { ChangeDecoder } from "./change-decoder.ts";
import { PollSource } from "./poll-source.ts";
import { confirmedLsn, ensureSlot, slotReadError } from "./slot.ts";

const refusal = (code: string): Error => Object.assign(new Error("main-db says no"), { code });

test.each([
  ["55000", "SLOT_LOST", "retry"],
  ["55006", "SLOT_ACTIVE", "retry"],
  ["42704", "SLOT_MISSING", "retry"],
  ["42501", "MISSING_RIGHT", "refuse"],
] as const)("who reads the slot and is told %s has %s: %s", (state, code, verdict) => {
  expect(slotReadError(refusal(state), "app", "reading it")).toMatchObject({ code, verdict });
});

test("a slot that goes while a life begins ends the life, not the process", async () => {
  const client = { query: async () => ({ rows: [] }) } as unknown as pg.Client;
  const gone = { code: "SLOT_LOST", verdict: "retry" };
  await expect(ensureSlot(client, { slot: "app", hasPublished: true })).rejects.toMatchObject(gone);
  await expect(confirmedLsn(client, "app")).rejects.toMatchObject(gone);
});

test("a slot that becomes invalid between two polls ends the life, not the process: the next one says what is lost, or repairs it", async () => {
  const client = { query: () => Promise.reject(refusal("55000")), end: async () => undefined } as unknown as pg.Client;
  const decoder = {} as ChangeDecoder;
  await using source = new PollSource({ client, slot: "app", pluginOptions: {}, decoder, from: 0n, intervalMs: 1 });
  const polled = source.messages(new AbortController().signal)[Symbol.asyncIterator]().next();
  await expect(polled).rejects.toMatchObject({ code: "SLOT_LOST", verdict: "retry" });
});
