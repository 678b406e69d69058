import type { Lsn } from "@cascade/shared/lsn";
import type { ChangeSource, SourceMessage } from "./change-source.ts";
import type { SlotBook } from "./slot-book.ts";

/** The bound is raised this often at most: what is confirmed meanwhile is confirmed then, and read again after a crash. */
const RAISE_INTERVAL_MS = 1_000;
const LAST_RAISE_TIMEOUT_MS = 3_000;

export interface BoundedOptions {
  /** Confirmed before the next delivery is asked for: a source that is polled would bring it again. */
  readonly eager: boolean;
}

/** The source, confirmed only up to what is written down: so a slot that was moved by somebody else is told from one that cdc has moved. */
export class BoundedSource implements ChangeSource {
  readonly #source: ChangeSource;
  readonly #book: Pick<SlotBook, "bound" | "raiseBound">;
  readonly #eager: boolean;
  #wanted: Lsn = 0n;
  #raising: Promise<void> | null = null;
  #raisedAtMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | null = null;

  constructor(source: ChangeSource, book: Pick<SlotBook, "bound" | "raiseBound">, { eager }: BoundedOptions) {
    this.#source = source;
    this.#book = book;
    this.#eager = eager;
  }

  async *messages(signal: AbortSignal): AsyncIterable<readonly SourceMessage[]> {
    for await (const messages of this.#source.messages(signal)) {
      yield messages;
      if (this.#eager) await this.#raise();
    }
  }

  confirm(through: Lsn): void {
    if (through <= this.#wanted) return;
    this.#wanted = through;
    if (through <= this.#book.bound) this.#source.confirm(through);
    else if (!this.#eager) this.#schedule();
  }

  #schedule(): void {
    if (this.#raising !== null || this.#timer !== null) return;
    const waitMs = this.#raisedAtMs + RAISE_INTERVAL_MS - performance.now();
    if (waitMs <= 0) return void this.#raise();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.#raise();
    }, waitMs);
  }

  /** Resolves when everything that is wanted by then is confirmed. */
  async #raise(): Promise<void> {
    while (this.#raising !== null) await this.#raising;
    if (this.#wanted <= this.#book.bound) return;
    this.#raisedAtMs = performance.now();
    this.#raising = this.#raiseOnce();
    await this.#raising;
  }

  async #raiseOnce(): Promise<void> {
    const bound = this.#wanted;
    await this.#book.raiseBound(bound);
    this.#source.confirm(bound);
    this.#raising = null;
    if (this.#wanted > bound && !this.#eager) this.#schedule();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    // Kafka may be away: then the next start reads again what was not confirmed.
    await Promise.race([this.#raise(), Bun.sleep(LAST_RAISE_TIMEOUT_MS)]);
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#source[Symbol.asyncDispose]();
  }
}
