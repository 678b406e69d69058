import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import { tableSchema } from "@cascade/shared/testing/table-schemas";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import { Copies } from "./copies.ts";
import { INITIAL, WAITING, WHOLE } from "./copy-job.ts";
import { MergedSource } from "./merged-source.ts";
import { StateWriter } from "./state-writer.ts";

/** A stream that brings nothing: what copies offer must not wait for it. */
const idle: ChangeSource = {
  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  },
  confirm: () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
};

const event = (ordinal: number): ChangeEvent => ({
  op: "r",
  table: { schema: "public", table: "t", topic: "cascade.public.t", schemaId: "s" },
  transaction: { txId: 1, commitLsn: 1n, committedAtMs: 0 },
  ordinal,
  lsn: 1n,
  key: null,
  before: null,
  after: "{}",
});

test("rows that are offered one after the other are published while the stream is idle", async () => {
  const copies = new Copies(() => undefined);
  const job = { request: "r", oid: 7, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  copies.add(job, WAITING, { key: [] });
  const writer = new StateWriter({ write: async () => undefined }, () => undefined);
  const source = new MergedSource(idle, copies, writer, () => undefined);
  const stop = new AbortController();
  const published: number[] = [];
  const pumping = (async () => {
    for await (const messages of source.messages(stop.signal)) {
      for (const message of messages) if (message.kind === "change") published.push(message.event.ordinal);
      await Bun.sleep(1);
    }
  })();
  for (let ordinal = 0; ordinal < 6; ordinal++) await source.offer(() => [event(ordinal)]);
  expect(published).toEqual([0, 1, 2, 3, 4, 5]);
  stop.abort();
  await pumping;
});

test("that rewritten rows are to be copied is written down before the rewrite is announced, which is said once", async () => {
  const schema = tableSchema("t", { id: "integer" });
  const at = { commitLsn: 5n, ordinal: 0 };
  const rewrite: SourceMessage = { kind: "schema", topic: "cascade.public.t", schema, at, change: true, rewritten: true };
  const source: ChangeSource = {
    ...idle,
    async *messages() {
      yield [rewrite];
    },
  };
  let written = false;
  const write = async () => {
    await Bun.sleep(1);
    written = true;
  };
  const writer = new StateWriter({ write }, () => undefined);
  const job = { request: INITIAL, oid: schema.oid, name: { schema: "public", table: "t" }, replica: null, range: WHOLE };
  const copies = new Copies(() => writer.note({ job, state: WAITING }));
  for await (const messages of new MergedSource(source, copies, writer, () => undefined).messages(new AbortController().signal)) {
    expect(messages).toEqual([rewrite]);
    expect(written).toBe(true);
  }
});
