import type { Verdict } from "./history.ts";

const BEGIN = "<!-- figures: written by `npm run reliability -- --write` -->";
const END = "<!-- end of figures -->";

/** The page with the figures of these verdicts between its marks. */
export function withFigures(page: string, verdicts: readonly Verdict[], day: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`docs/reliability.md has lost its marks ${BEGIN} and ${END}`);
  return `${page.slice(0, begin)}${BEGIN}\n${figures(verdicts, day)}\n${page.slice(end)}`;
}

function figures(verdicts: readonly Verdict[], day: string): string {
  const failed = verdicts.filter(({ problem }) => problem !== null);
  const sum = (of: (verdict: Verdict) => number): number => verdicts.reduce((total, verdict) => total + of(verdict), 0);
  const seeds = verdicts.map(({ seed }) => seed);
  const recoveries = verdicts.filter(({ problem }) => problem === null).map(({ recoverySeconds }) => recoverySeconds);
  const sorted = recoveries.toSorted((one, other) => one - other);
  const at = (share: number): string => String(sorted[Math.floor(share * (sorted.length - 1))] ?? "-");
  return [
    `${day}: **${verdicts.length} histories, ${verdicts.length - failed.length} ended equal, ${failed.length} did not.** Seeds ${Math.min(...seeds)} to ${Math.max(...seeds)};`,
    `${sum(({ faults }) => faults.length)} faults, ${sum(({ changes }) => changes).toLocaleString("en")} row changes, ${Math.round(sum(({ seconds }) => seconds) / 60)} minutes.`,
    `From the end of the last fault until all were equal: median ${at(0.5)} s, worst ${at(1)} s.`,
    "",
    ...failed.map(({ seed, problem }) => `- seed ${seed}: ${problem?.split("\n").slice(0, 2).join(" ")}`),
    ...(failed.length > 0 ? [""] : []),
    "| fault | times |",
    "|---|---|",
    ...[
      ...Map.groupBy(
        verdicts.flatMap(({ faults }) => faults),
        (name) => name,
      ),
    ]
      .toSorted(([one], [other]) => one.localeCompare(other))
      .map(([name, times]) => `| ${name} | ${times.length} |`),
  ].join("\n");
}
