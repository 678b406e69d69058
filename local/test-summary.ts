export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const ansiColours = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g");

/**
 * Counts from what `bun test` printed. An error outside a test counts as a failure, and so does a run that ended
 * badly without naming one, or that says nothing at all: silence is never a success.
 */
export function tallyOf(output: string, exitCode: number | null): Tally {
  const lines = output.replace(ansiColours, "").split(/\r?\n/);
  const end = lines.findLastIndex((line) => /^Ran \d+ tests? across \d+ files?\./.test(line));
  if (end === -1) return { passed: 0, failed: 1, skipped: 0 };
  const count = (word: string): number => {
    // Only the block right above: a test may print lines that look the same.
    for (const line of lines.slice(Math.max(0, end - 8), end).reverse()) {
      const found = new RegExp(`^\\s*(\\d+) ${word}s?$`).exec(line);
      if (found) return Number(found[1]);
    }
    return 0;
  };
  // Bun counts an error outside of a test in both lines.
  const failed = Math.max(count("fail"), count("error"));
  return {
    passed: count("pass"),
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    skipped: count("skip") + count("todo"),
  };
}

const REPORTED = 40;

/**
 * What each failed test printed from its error on, the first and last lines of it: a run's output is long, and mostly the end of it is looked at.
 * Without the summary, which says the names alone.
 */
export function failuresOf(output: string): readonly string[] {
  const lines = output.replace(ansiColours, "").split(/\r?\n/);
  const end = lines.findIndex((line) => /^\d+ tests? (?:skipped|failed):$/.test(line));
  let from = 0;
  return lines.slice(0, end === -1 ? lines.length : end).flatMap((line, at) => {
    if (/^\((?:pass|skip|todo)\) /.test(line)) from = at + 1;
    if (!line.startsWith("(fail) ")) return [];
    const said = lines.slice(from, at);
    from = at + 1;
    const error = said.findIndex((one) => /^(?:error|\w*Error): /.test(one));
    return [[...shortened(said.slice(Math.max(0, error))), line].join("\n")];
  });
}

function shortened(lines: readonly string[]): readonly string[] {
  if (lines.length <= 2 * REPORTED) return lines;
  return [...lines.slice(0, REPORTED), `... ${lines.length - 2 * REPORTED} lines more`, ...lines.slice(-REPORTED)];
}

export function sumOf(tallies: readonly Tally[]): Tally {
  const sum = (name: keyof Tally): number => tallies.reduce((total, tally) => total + tally[name], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

export function lastLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
}

/** A run in which nothing passed tested nothing. */
export function succeeded({ passed, failed }: Tally): boolean {
  return failed === 0 && passed > 0;
}
