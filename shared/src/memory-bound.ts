const INTERVAL_MS = 50;
/** Collecting may take at most this share of the time, however much memory is really in use. */
const MAX_SHARE = 0.15;

/**
 * Collects garbage whenever the process's resident memory is above `maxRssBytes`. JavaScriptCore sizes its heap by the machine's memory:
 * on a large machine, under load, it lets several times of what is in use lie around, and a container with a limit dies of it
 * (docs/decisions/0013). Keeps no process alive. Returns what ends it.
 */
export function boundMemory(maxRssBytes: number): () => void {
  let notBeforeMs = 0;
  const timer = setInterval(() => {
    const startedMs = performance.now();
    if (startedMs < notBeforeMs || process.memoryUsage.rss() < maxRssBytes) return;
    Bun.gc(true);
    const endedMs = performance.now();
    notBeforeMs = endedMs + (endedMs - startedMs) / MAX_SHARE;
  }, INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
