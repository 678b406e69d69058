/** Lags of the most recent batches, each weighted by its events: for /status. Prometheus gets the gauge and the histogram. */
export class LagWindow {
  readonly #lagMs = new Float64Array(SIZE);
  readonly #events = new Uint32Array(SIZE);
  #count = 0;

  /** `lagMs` of the oldest of `events` events that became visible together. */
  add(lagMs: number, events: number): void {
    const at = this.#count++ % SIZE;
    this.#lagMs[at] = lagMs;
    this.#events[at] = events;
  }

  /** Milliseconds; null before the first batch. */
  summary(): { readonly p50: number | null; readonly p99: number | null; readonly max: number | null } {
    const filled = Math.min(this.#count, SIZE);
    const order = Array.from({ length: filled }, (_, at) => at).sort((a, b) => (this.#lagMs[a] ?? 0) - (this.#lagMs[b] ?? 0));
    const total = order.reduce((sum, at) => sum + (this.#events[at] ?? 0), 0);
    const quantile = (share: number): number | null => {
      let seen = 0;
      for (const at of order) {
        seen += this.#events[at] ?? 0;
        if (seen >= total * share) return this.#lagMs[at] ?? null;
      }
      return null;
    };
    return { p50: quantile(0.5), p99: quantile(0.99), max: quantile(1) };
  }
}

const SIZE = 1024;
