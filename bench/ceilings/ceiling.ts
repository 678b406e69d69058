/** What the simplest program that could do it needs, without any of Cascade's promises. */
export interface Ceiling {
  readonly rows: number;
  readonly seconds: number;
  /** Of the program alone. */
  readonly cpuSeconds: number;
  /** 0 where it ran within the bench. */
  readonly peakRssBytes: number;
}
