import type { Figure } from "./figure.ts";

/** The median run of each part and service, by time. */
export function medians(figures: readonly Figure[]): readonly Figure[] {
  const groups = Map.groupBy(figures, ({ part, who }) => `${part} ${who}`);
  return [...groups.values()].map((group) => {
    const sorted = [...group].sort((a, b) => a.seconds - b.seconds);
    return sorted[sorted.length >> 1] as Figure;
  });
}

/** How much of each ceiling was reached: the median over the runs of the ratio within each. Null for what is no ceiling. */
export function reached(figures: readonly Figure[], { part, who, ceilingOf }: Figure): number | null {
  if (ceilingOf === undefined) return null;
  const rates = (name: string) => figures.filter((one) => one.part === part && one.who === name);
  const ratios = rates(who).flatMap((ceiling) => {
    const measured = rates(ceilingOf).find(({ attempt }) => attempt === ceiling.attempt);
    return measured === undefined ? [] : [rateOf(measured) / rateOf(ceiling)];
  });
  return ratios.sort((a, b) => a - b)[ratios.length >> 1] ?? null;
}

const rateOf = ({ rows, seconds }: Figure): number => rows / seconds;

const COLUMNS = ["part", "service", "rows", "seconds", "rows/s", "reached", "CPU s per million rows", "peak RSS MB"] as const;

/** Of every run: aligned text, which is a Markdown table as well, of the median ones. */
export function table(all: readonly Figure[]): string {
  const figures = medians(all);
  const rows = figures.map((figure) => [
    figure.part,
    figure.who,
    figure.rows.toLocaleString("en"),
    figure.seconds.toFixed(2),
    Math.round(rateOf(figure)).toLocaleString("en"),
    reached(all, figure)?.toFixed(2) ?? "",
    ((figure.cpuSeconds / figure.rows) * 1e6).toFixed(1),
    figure.peakRssBytes === 0 ? "" : (figure.peakRssBytes / 1e6).toFixed(0),
  ]);
  const widths = COLUMNS.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? "").length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, at) => (at < 2 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(" | ")} |`;
  const rule = `|${widths.map((width, at) => (at < 2 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  const notes = figures.flatMap(({ part, who, note }) => (note === undefined ? [] : [`${part}, ${who}: ${note}`]));
  return [line(COLUMNS), rule, ...rows.map(line), ...notes].join("\n");
}
