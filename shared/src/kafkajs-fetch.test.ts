import { expect, test } from "bun:test";
import { createRequire } from "node:module";
import fc from "fast-check";

/** What the patch changes in how kafkajs's consumer fetches: in a session of the broker's, and linear in its partitions. */

const inside = createRequire(import.meta.url);

interface Topic<P> {
  readonly topic: string;
  readonly partitions: readonly P[];
}
interface Place {
  readonly partition: number;
  readonly fetchOffset: string;
}
interface Request {
  readonly sessionId: number;
  readonly sessionEpoch: number;
  readonly topics: readonly Topic<Place>[];
  readonly forgottenTopics: readonly Topic<number>[];
}
interface FetchSession {
  request(topics: readonly Topic<Place>[]): Request;
  answered(answer: { readonly errorCode: number; readonly sessionId: number }): boolean;
  failed(): void;
}
const FetchSessionClass = inside("kafkajs/src/consumer/fetchSession") as new () => FetchSession;
const SubscriptionState = inside("kafkajs/src/consumer/subscriptionState") as new () => {
  assign(topics: readonly Topic<number>[]): void;
  assigned(): readonly Topic<number>[];
};

const NO_ERROR = 0;
const FETCH_SESSION_ID_NOT_FOUND = 70;
const INVALID_FETCH_SESSION_EPOCH = 71;

/** A broker's side of KIP-227. */
class Broker {
  readonly #sessions = new Map<number, { epoch: number; readonly offsets: Map<string, string> }>();
  #lastId = 0;
  remembers = true;

  fetch({ sessionId, sessionEpoch, topics, forgottenTopics }: Request) {
    if (sessionEpoch === 0) {
      this.#sessions.delete(sessionId);
      const offsets = flat(topics);
      if (!this.remembers) return { errorCode: NO_ERROR, sessionId: 0, fetched: offsets };
      this.#sessions.set(++this.#lastId, { epoch: 1, offsets });
      return { errorCode: NO_ERROR, sessionId: this.#lastId, fetched: offsets };
    }
    const session = this.#sessions.get(sessionId);
    if (session === undefined) return { errorCode: FETCH_SESSION_ID_NOT_FOUND, sessionId: 0, fetched: null };
    if (session.epoch !== sessionEpoch) return { errorCode: INVALID_FETCH_SESSION_EPOCH, sessionId: 0, fetched: null };
    session.epoch++;
    for (const [key, offset] of flat(topics)) session.offsets.set(key, offset);
    for (const { topic, partitions } of forgottenTopics) for (const p of partitions) session.offsets.delete(`${topic} ${p}`);
    return { errorCode: NO_ERROR, sessionId, fetched: session.offsets };
  }

  restart(): void {
    this.#sessions.clear();
  }

  get sessions(): number {
    return this.#sessions.size;
  }
}

const flat = (topics: readonly Topic<Place>[]): Map<string, string> =>
  new Map(
    topics.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, fetchOffset }) => [`${topic} ${partition}`, fetchOffset] as const),
    ),
  );

const wanted = fc.uniqueArray(
  fc.record({
    topic: fc.constantFrom("a", "b", "c"),
    partitions: fc.uniqueArray(fc.record({ partition: fc.nat(3), fetchOffset: fc.nat(2).map(String) }), {
      selector: ({ partition }) => partition,
      minLength: 1,
    }),
  }),
  { selector: ({ topic }) => topic, minLength: 1 },
);
const what = fc.constantFrom(
  "answered",
  "answered",
  "answered",
  "answer lost",
  "request lost",
  "restart",
  "forgets",
  "remembers",
);

test("the broker fetches exactly what is wanted, whatever is lost between them", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(what, fc.option(wanted, { freq: 2 })), { maxLength: 40 }), (steps) => {
      const session = new FetchSessionClass();
      const broker = new Broker();
      let topics: readonly Topic<Place>[] = [];
      for (const [happens, others] of steps) {
        // As long as nothing has changed, kafkajs gives the very same.
        topics = others ?? topics;
        if (happens === "restart") broker.restart();
        if (happens === "forgets" || happens === "remembers") broker.remembers = happens === "remembers";
        const request = session.request(topics);
        if (happens === "request lost") {
          session.failed();
          continue;
        }
        const answer = broker.fetch(request);
        if (happens === "answer lost") {
          session.failed();
        } else if (session.answered(answer)) {
          expect(answer.fetched).toEqual(flat(topics));
        } else {
          expect(answer.errorCode).not.toBe(NO_ERROR);
          const again = broker.fetch(session.request(topics));
          expect(session.answered(again)).toBe(true);
          expect(again.fetched).toEqual(flat(topics));
        }
        // Ended with the request that takes its place, but where its number never came to the consumer.
        expect(broker.sessions).toBeLessThanOrEqual(1 + steps.filter(([each]) => each.endsWith("lost")).length);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("a fetch names only what has changed since the one before", () => {
  const session = new FetchSessionClass();
  const broker = new Broker();
  const of = (...offsets: readonly string[]) => [
    { topic: "t", partitions: offsets.map((fetchOffset, partition) => ({ partition, fetchOffset })) },
  ];
  const first = session.request(of("0", "0", "0"));
  expect(first).toEqual({ sessionId: 0, sessionEpoch: 0, topics: of("0", "0", "0"), forgottenTopics: [] });
  session.answered(broker.fetch(first));
  const idle = session.request(of("0", "0", "0"));
  expect(idle).toEqual({ sessionId: 1, sessionEpoch: 1, topics: [], forgottenTopics: [] });
  session.answered(broker.fetch(idle));
  expect(session.request(of("0", "7"))).toEqual({
    sessionId: 1,
    sessionEpoch: 2,
    topics: [{ topic: "t", partitions: [{ partition: 1, fetchOffset: "7" }] }],
    forgottenTopics: [{ topic: "t", partitions: [2] }],
  });
});

test("an assignment is taken in a time that grows with its topics, not with their square", () => {
  const topics = Array.from({ length: 20_000 }, (_, i) => ({ topic: `cascade.public.table_${i}`, partitions: [0] }));
  const state = new SubscriptionState();
  const startedAt = performance.now();
  state.assign(topics);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
  expect(state.assigned()).toEqual(topics);
});
