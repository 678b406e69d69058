import { type Lsn, laterLsn } from "@cascade/shared/lsn";
import type { Announcement, EventPublisher } from "./event-publisher.ts";
import type { SlotBook } from "./slot-book.ts";

/** The publisher, which publishes nothing beyond the limit that is written down. */
export function limitedPublisher(publisher: EventPublisher, book: Pick<SlotBook, "mayPublish" | "heartbeat">): EventPublisher {
  return {
    check: () => publisher.check(),
    hasPublished: () => publisher.hasPublished(),
    recall: (announced) => publisher.recall(announced),
    announce: async (news) => {
      await book.mayPublish(news.reduce((last, item) => laterLsn(last, placeOf(item)), 0n));
      return publisher.announce(news);
    },
    publish: async (events) => {
      // Rows of copies stand at places before those of the stream. One object for each transaction: compared once.
      let last: Lsn = 0n;
      let transaction: unknown = null;
      for (const event of events) {
        if (event.transaction === transaction) continue;
        transaction = event.transaction;
        last = laterLsn(last, event.transaction.commitLsn);
      }
      const allowed = book.mayPublish(last);
      if (allowed !== null) await allowed;
      return publisher.publish(events);
    },
    heartbeat: async (beat) => {
      await publisher.heartbeat(beat);
      book.heartbeat(beat.commitLsn);
    },
    [Symbol.asyncDispose]: () => publisher[Symbol.asyncDispose](),
  };
}

const placeOf = ({ at }: Announcement): Lsn => at.commitLsn;
