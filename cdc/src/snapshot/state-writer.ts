import type { Copy } from "./copies.ts";
import type { SignalLog, SignalMessage } from "./signal-log.ts";
import { encodeState, stateKey } from "./signals.ts";

/** What is written down of a copy. */
export type CopyNote = Pick<Copy, "job" | "state">;

/** Writes down how far copies are: the newest state of each, one write at a time. */
export class StateWriter {
  readonly #log: Pick<SignalLog, "write">;
  readonly #onFailure: (error: unknown) => void;
  readonly #changed = new Set<CopyNote>();
  readonly #noted = new Set<CopyNote>();
  #writing: Promise<void> | null = null;

  constructor(log: Pick<SignalLog, "write">, onFailure: (error: unknown) => void) {
    this.#log = log;
    this.#onFailure = onFailure;
  }

  /** Resolves when the state that the copy has now, or a newer one, is durable; never when it cannot be: `onFailure` is told. */
  async save(...copies: readonly CopyNote[]): Promise<void> {
    for (const copy of copies) this.#changed.add(copy);
    await this.saved();
  }

  /** To be written before anything else is confirmed. */
  note(copy: CopyNote): void {
    this.#changed.add(copy);
    this.#noted.add(copy);
  }

  /** Nothing that was noted is still to be written. */
  get isSafe(): boolean {
    return this.#noted.size === 0;
  }

  async saved(): Promise<void> {
    while (this.#changed.size > 0 || this.#writing !== null) {
      this.#writing ??= this.#write();
      await this.#writing;
    }
  }

  async #write(): Promise<void> {
    const copies = [...this.#changed];
    const noted = [...this.#noted];
    this.#changed.clear();
    try {
      if (copies.length > 0) await this.#log.write(copies.map(messageOf));
      // Those that were noted meanwhile are to be written again.
      for (const copy of noted) if (!this.#changed.has(copy)) this.#noted.delete(copy);
      this.#writing = null;
    } catch (error) {
      this.#onFailure(error);
      await new Promise<never>(() => undefined); // the life is over
    }
  }
}

const messageOf = ({ job, state }: CopyNote): SignalMessage => ({
  key: stateKey(job.request, job.oid),
  value: encodeState(job, state),
});
