import { fullGC } from "bun:jsc";

const INTERVAL_MS = 25;
/** Collecting may take at most this share of the time. */
const MAX_SHARE = 0.2;
/**
 * Collecting leaves the freed pages with the process, which takes them up again at once. So far above the limit they are given back to the
 * system: that takes three times as long, in which as much garbage comes up again as it is worth.
 */
const FAR_ABOVE = 1.2;
/** There being slow is better than being killed by a container's limit. */
const MAX_SHARE_FAR_ABOVE = 0.6;

/**
 * Of garbage within the pages that the process has anyway there is nothing to be had: only after so many more is it collected again. What is
 * idle above the limit would else collect all the time.
 */
const GROWTH_BYTES = 4 * 2 ** 20;

const LARGE_BYTES = 8 * 2 ** 20;

/**
 * To be called between two steps that work on so many bytes at once: each leaves copies behind that the next would add its own to, with
 * no turn of the event loop between them at which `boundMemory` could look.
 */
export function collectAfter(bytes: number): void {
  if (bytes > LARGE_BYTES) Bun.gc(true);
}

/**
 * Collects garbage whenever the process's resident memory is above `maxRssBytes`. JavaScriptCore sizes its heap by the machine's memory:
 * on a large machine, under load, it lets several times of what is in use lie around, and a container with a limit dies of it
 * (docs/decisions/0013). Keeps no process alive. Returns what ends it.
 */
export function boundMemory(
  maxRssBytes: number,
  collect: Collect = { garbage: fullGC, andGiveBack: () => Bun.gc(true) },
): () => void {
  let notBeforeMs = 0;
  /** The least since the last time. */
  let leftBytes = 0;
  const timer = setInterval(() => {
    const startedMs = performance.now();
    if (startedMs < notBeforeMs) return;
    const rssBytes = process.memoryUsage.rss();
    leftBytes = Math.min(leftBytes, rssBytes);
    if (rssBytes < maxRssBytes || rssBytes < leftBytes + GROWTH_BYTES) return;
    const isFar = rssBytes > maxRssBytes * FAR_ABOVE;
    if (isFar) collect.andGiveBack();
    else collect.garbage();
    leftBytes = process.memoryUsage.rss();
    const endedMs = performance.now();
    notBeforeMs = endedMs + (endedMs - startedMs) * (1 / (isFar ? MAX_SHARE_FAR_ABOVE : MAX_SHARE) - 1);
  }, INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}

interface Collect {
  garbage(): void;
  andGiveBack(): void;
}
