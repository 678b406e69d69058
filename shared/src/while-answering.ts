import { pause } from "./retry.ts";

const INTERVAL_MS = 3_000;
const SILENCE_MS = 10_000;

export interface AnsweringOptions {
  readonly intervalMs?: number;
  /** The other side has not answered for `silenceMs`, or has again: it may be frozen, or busy with what it was given. */
  readonly onSilence?: (silent: boolean) => void;
  readonly silenceMs?: number;
}

/**
 * `work`, for as long as the other side answers `check` every few seconds: a pipeline with nothing to do would not notice that a server
 * is away, and go on calling itself ready. Rejects with what the failing check rejects with.
 */
export async function whileAnswering(
  check: () => Promise<void>,
  work: Promise<void>,
  { intervalMs = INTERVAL_MS, onSilence = () => {}, silenceMs = SILENCE_MS }: AnsweringOptions = {},
): Promise<void> {
  const done = new AbortController();
  const told = () => telling(check, silenceMs, onSilence);
  try {
    await Promise.race([work, checking(told, intervalMs, done.signal)]);
  } finally {
    done.abort();
  }
}

/** `check`, with word of it when it lasts. */
async function telling(check: () => Promise<void>, silenceMs: number, onSilence: (silent: boolean) => void): Promise<void> {
  const timer = setTimeout(() => onSilence(true), silenceMs);
  try {
    await check();
  } finally {
    clearTimeout(timer);
    onSilence(false);
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
