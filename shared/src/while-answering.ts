import { pause } from "./retry.ts";

const INTERVAL_MS = 3_000;

/**
 * `work`, for as long as the other side answers `check` every few seconds: a pipeline with nothing to do would not notice that a server
 * is away, and go on calling itself ready. Rejects with what the failing check rejects with.
 */
export async function whileAnswering(check: () => Promise<void>, work: Promise<void>, intervalMs = INTERVAL_MS): Promise<void> {
  const done = new AbortController();
  try {
    await Promise.race([work, checking(check, intervalMs, done.signal)]);
  } finally {
    done.abort();
  }
}

/** Never resolves before `done`: only a failure ends the race. */
async function checking(check: () => Promise<void>, intervalMs: number, done: AbortSignal): Promise<void> {
  for (;;) {
    await pause(intervalMs, done);
    if (done.aborted) return;
    await check();
  }
}
