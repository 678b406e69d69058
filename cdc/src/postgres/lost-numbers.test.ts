import { expect, test } from "bun:test";
import type { ChangeEvent } from "@cascade/shared/change-event";
import { CascadeError } from "@cascade/shared/errors";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import type { LostRow } from "./change-decoder.ts";
import { withLostNumbers } from "./lost-numbers.ts";
import type { Reread } from "./number-reader.ts";

const event = (ordinal: number): ChangeEvent => ({
  op: "c",
  table: { schema: "s", table: "t", topic: "p.s.t", schemaId: "x" },
  transaction: { txId: 1, commitLsn: 1n, committedAtMs: 0 },
  ordinal,
  lsn: 1n,
  key: `{"id":${ordinal}}`,
  before: null,
  after: `{"id":${ordinal},"n":null}`,
});
const events = [event(0), event(1), event(2)] as const;
const delivery: readonly SourceMessage[] = [
  ...events.map((one) => ({ kind: "change", event: one }) as const),
  { kind: "commit", endLsn: 2n, committedAtMs: 0 },
];
const [first, second] = events;

/** Of a source that delivers `delivery` for ever, what comes until it ends, at most twice. */
async function deliveries(lost: readonly ChangeEvent[], answer: Reread | null): Promise<(readonly SourceMessage[])[]> {
  const source: ChangeSource = {
    async *messages() {
      for (;;) yield delivery;
    },
    confirm: () => {},
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const takeLost = () => lost.map((one) => ({ event: one }) as LostRow);
  const seen: (readonly SourceMessage[])[] = [];
  for await (const messages of withLostNumbers(source, { takeLost }, { read: async () => answer }).messages(
    new AbortController().signal,
  )) {
    seen.push(messages);
    if (seen.length === 2) break;
  }
  return seen;
}

test("a delivery that lost nothing goes on as it is", async () => {
  expect((await deliveries([], null))[0]).toBe(delivery);
});

test("what was found stands in its event, all else as it came", async () => {
  const after = new Map([[second, '{"id":1,"n":"NaN"}']]);
  const [messages] = await deliveries([second], { after, refused: null });
  expect(messages?.map((one) => (one.kind === "change" ? one.event.after : one.kind))).toEqual([
    '{"id":0,"n":null}',
    '{"id":1,"n":"NaN"}',
    '{"id":2,"n":null}',
    "commit",
  ]);
});

test("what comes before a refused event is handed over, then comes its error", async () => {
  const error = new CascadeError({ code: "SPECIAL_NUMBER_LOST", verdict: "refuse", message: "m", advice: "a" });
  const seen: (readonly SourceMessage[])[] = [];
  const source: ChangeSource = {
    async *messages() {
      yield delivery;
    },
    confirm: () => {},
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  const refused = { after: new Map(), refused: { event: second, error } };
  const wrapped = withLostNumbers(
    source,
    { takeLost: () => [{ event: second } as LostRow] },
    { read: () => Promise.resolve(refused) },
  );
  const reading = async () => {
    for await (const messages of wrapped.messages(new AbortController().signal)) seen.push(messages);
  };
  expect(await reading().catch((thrown: unknown) => thrown)).toBe(error);
  expect(seen).toEqual([[{ kind: "change", event: first }]]);
});

test("asked to stop while it looks, it hands nothing over", async () => {
  expect(await deliveries([first], null)).toEqual([]);
});
