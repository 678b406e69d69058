import { join } from "node:path";
import { onInterrupt } from "@cascade/local/interrupt.ts";
import { repository } from "@cascade/local/paths.ts";
import { setUp } from "@cascade/local/setup.ts";
import { withFigures } from "./figures.ts";
import { runHistory, type Verdict } from "./history.ts";
import { RELIABILITY_USAGE, readReliabilityOptions } from "./options.ts";

/** Random histories of faults on real servers, one after the other. Exits with 0 when all of them ended equal. */

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(args: readonly string[]): Promise<number> {
  const options = readReliabilityOptions(args);
  if (options === null) {
    say(RELIABILITY_USAGE);
    return 0;
  }
  await setUp({ mariadb: true });
  const verdicts: Verdict[] = [];
  const endAt = performance.now() + options.minutes * 60_000;
  for (let at = 0; at < options.histories && performance.now() < endAt && !interrupted; at++) {
    const seed = options.seed + at;
    const steps: string[] = [];
    const verdict = await runHistory(seed, (line) => steps.push(line));
    verdicts.push(verdict);
    const { problem, faults, changes, seconds, recoverySeconds, engines } = verdict;
    const ended = problem === null ? `equal ${recoverySeconds} s after the last of` : "FAILED after";
    say(`seed ${seed}: ${ended} ${faults.length} faults, ${changes} changes to ${engines.join(" and ")}, ${seconds} s`);
    if (problem !== null) say(`${steps.join("\n")}\n${problem}\nagain: npm run reliability -- --histories 1 --seed ${seed}`);
  }
  const failed = verdicts.filter(({ problem }) => problem !== null);
  if (options.write && verdicts.length > 0) {
    const page = join(repository, "docs/reliability.md");
    const text = withFigures(await Bun.file(page).text(), verdicts, new Date().toISOString().slice(0, 10));
    await Bun.write(page, text);
  }
  say(`${verdicts.length} histories, ${verdicts.length - failed.length} equal, ${failed.length} failed`);
  return failed.length === 0 && verdicts.length > 0 ? 0 : 1;
}

let interrupted = false;
// The history in hand is finished; the servers end with this process.
onInterrupt(() => {
  interrupted = true;
});

process.exit(
  await main(process.argv.slice(2)).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${RELIABILITY_USAGE}\n`);
    return 1;
  }),
);
