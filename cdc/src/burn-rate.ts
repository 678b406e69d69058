/** What the rate is taken over: main-db forgets WAL by steps, some fifteen seconds apart. */
const WINDOW_MS = 60_000;
const MIN_SPAN_MS = 20_000;

interface Sample {
  readonly atMs: number;
  /** Grows as the slot falls behind. */
  readonly bytes: number;
}

/**
 * By how many bytes a second the slot falls behind: the lowest level of the later half of the last minute against that of the earlier one,
 * so that neither a step nor a burst looks like a trend. Of what main-db keeps, not of `safe_wal_size`: that counts whole segments, and
 * seems to shrink for minutes where little is written and all of it is confirmed.
 */
export class BurnRate {
  #samples: Sample[] = [];

  take(retainedBytes: number, atMs: number): void {
    this.#samples = [...this.#samples.filter((sample) => atMs - sample.atMs <= WINDOW_MS), { atMs, bytes: retainedBytes }];
  }

  /** null before it is known. */
  get bytesPerSecond(): number | null {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs - first.atMs < MIN_SPAN_MS) return null;
    const middleMs = (first.atMs + last.atMs) / 2;
    const at = this.#samples.findIndex(({ atMs }) => atMs >= middleMs);
    const later = this.#samples[at];
    if (later === undefined || later === first) return null;
    const lowest = (samples: readonly Sample[]) => Math.min(...samples.map(({ bytes }) => bytes));
    const grown = lowest(this.#samples.slice(at)) - lowest(this.#samples.slice(0, at));
    return grown / ((later.atMs - first.atMs) / 1000);
  }
}
