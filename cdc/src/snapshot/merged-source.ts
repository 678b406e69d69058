import type { ChangeEvent } from "@cascade/shared/change-event";
import type { Lsn } from "@cascade/shared/lsn";
import { Signal } from "@cascade/shared/signal";
import type { ChangeSource, SourceMessage } from "../change-source.ts";
import type { Copies, Copy } from "./copies.ts";
import { MAX_EARLY_CHARS } from "./open-chunk.ts";
import type { StateWriter } from "./state-writer.ts";

/** Changes of a table without a key, held until its copy is published, as text. Past it the stream waits for the copy. */
const MAX_HELD_CHARS = 64 * 1024 * 1024;

/** Rows that stand at no mark of the stream's next: they are published as soon as it is idle, or in turn with it. */
interface Offer {
  readonly events: () => readonly ChangeEvent[];
  readonly published: () => void;
}

/**
 * The source with the rows of copies in it. What it hands over is published before the next is asked for, as the pipeline does: that is
 * how a copy learns that its rows are durable.
 */
export class MergedSource implements ChangeSource {
  readonly #source: ChangeSource;
  readonly #copies: Copies;
  readonly #writer: StateWriter;
  readonly #onPublished: () => void;
  readonly #changed = new Signal();
  #offers: Offer[] = [];
  #wanted: Lsn = 0n;
  #endLsn: Lsn = 0n;
  /** The source may deliver again what it has delivered: a poll does, until it is confirmed. */
  #mayRepeat = false;

  constructor(source: ChangeSource, copies: Copies, writer: StateWriter, onPublished: () => void) {
    this.#source = source;
    this.#copies = copies;
    this.#writer = writer;
    this.#onPublished = onPublished;
  }

  /** A copy has got on: who waited for it may go on. */
  notify(): void {
    this.#changed.notify();
  }

  /** Resolves when these are durable. They are asked for when their turn comes, and nothing of the stream comes between. */
  offer(events: () => readonly ChangeEvent[]): Promise<void> {
    return new Promise((resolve) => {
      this.#offers.push({ events, published: resolve });
      this.#changed.notify();
    });
  }

  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    const stream = this.#source.messages(signal)[Symbol.asyncIterator]();
    let pulling: Promise<IteratorResult<readonly SourceMessage[]>> | null = null;
    const wake = () => this.#changed.notify();
    signal.addEventListener("abort", wake);
    try {
      for (let turn = 0; ; turn++) {
        if (pulling === null && !this.#mustWait()) {
          pulling = stream.next();
          pulling.catch(() => undefined); // when nobody waits for it any more
        }
        const pulled = await this.#either(pulling, turn);
        if (pulled === null) {
          if (signal.aborted && pulling === null) return;
          yield* this.#offered();
          continue;
        }
        pulling = null;
        if (pulled.done) return;
        const merged = this.#merge(pulled.value);
        // Once it is announced that rows were rewritten nobody tells of it again: that they are to be copied must be written down before. So
        // must what is kept back of a table until then: whoever hears of its change takes it that nothing from before is still to come.
        if (!this.#writer.isSafe && merged.some(isChange)) await this.#writer.saved();
        if (merged.length > 0) yield merged;
        this.#onPublished();
      }
    } finally {
      signal.removeEventListener("abort", wake);
      // Not waited for: a pull may be under way that never ends.
      if (pulling === null) await stream.return?.();
    }
  }

  /** What the stream brings; null when it is something else's turn. */
  async #either<T>(pulling: Promise<T> | null, turn: number): Promise<T | null> {
    if (this.#offers.length > 0) {
      if (pulling === null || turn % 2 === 1) return null;
      // The stream's turn, if it has anything: an offer that came while nobody waited is not told of again.
      return await Promise.race([pulling, null]);
    }
    // Without a copy that has rows of its own to offer, nothing else can have a turn.
    if (pulling !== null && !this.#copies.all.some(({ kind }) => kind === "keyless")) return await pulling;
    const changed = this.#changed.wait().then(() => null);
    return await (pulling === null ? changed : Promise.race([pulling, changed]));
  }

  *#offered(): Iterable<readonly SourceMessage[]> {
    const offer = this.#offers.shift();
    if (offer === undefined) return;
    const events = offer.events();
    if (events.length > 0) yield events.map((event) => ({ kind: "change", event }));
    offer.published();
  }

  #merge(messages: readonly SourceMessage[]): readonly SourceMessage[] {
    const fresh = this.#mayRepeat ? messages.filter((message) => !this.#isRepeated(message)) : messages;
    for (const message of messages) if (message.kind === "commit" && message.endLsn > this.#endLsn) this.#endLsn = message.endLsn;
    return this.#copies.merge(fresh, (copy: Copy) => this.#writer.note(copy));
  }

  #isRepeated(message: SourceMessage): boolean {
    if (message.kind === "change") return message.event.transaction.commitLsn < this.#endLsn;
    return message.kind === "mark" && message.transaction.commitLsn < this.#endLsn;
  }

  #mustWait(): boolean {
    return this.#copies.all.some((copy) =>
      copy.kind === "keyed" ? copy.earlyChars > MAX_EARLY_CHARS : copy.heldChars > MAX_HELD_CHARS,
    );
  }

  confirm(through: Lsn): void {
    if (through > this.#wanted) this.#wanted = through;
    this.confirmWanted();
  }

  /** As far as nothing is held that stands nowhere else, and what must not be forgotten is written down. */
  confirmWanted(): void {
    let through = this.#wanted;
    for (const copy of this.#copies.all) {
      const from = copy.kind === "keyless" ? copy.holdsFrom : null;
      if (from !== null && from < through) through = from;
    }
    if (through < this.#wanted) this.#mayRepeat = true;
    if (this.#writer.isSafe) {
      this.#confirm(through);
      return;
    }
    this.#mayRepeat = true;
    void this.#writer.saved().then(() => this.#confirm(through));
  }

  #confirm(through: Lsn): void {
    if (through > 0n) this.#source.confirm(through);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source[Symbol.asyncDispose]();
  }
}

const isChange = (message: SourceMessage): boolean => message.kind === "schema" && message.change;
