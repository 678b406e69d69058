/** Says on standard error what is being done and, while it lasts, for how long. */
export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const seconds = (): string => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  say(`${what} ...`);
  const timer = setInterval(() => say(`${what}: ${seconds()} so far`), 10_000);
  try {
    const result = await work();
    say(`${what}: done in ${seconds()}`);
    return result;
  } finally {
    clearInterval(timer);
  }
}

export function say(line: string): void {
  process.stderr.write(`[set-up] ${line}\n`);
}
