import type { Figure } from "./figure.ts";

/** The median run of each part and service, by time. */
export function medians(figures: readonly Figure[]): readonly Figure[] {
  const groups = Map.groupBy(figures, ({ part, who }) => `${part} ${who}`);
  return [...groups.values()].map((group) => {
    const sorted = [...group].sort((a, b) => a.seconds - b.seconds);
    return sorted[sorted.length >> 1] as Figure;
  });
}

const COLUMNS = ["part", "service", "rows", "seconds", "rows/s", "CPU s per million rows", "peak RSS MB"] as const;

/** Aligned text, which is a Markdown table as well. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map(({ part, who, rows: count, seconds, cpuSeconds, peakRssBytes }) => [
    part,
    who,
    count.toLocaleString("en"),
    seconds.toFixed(2),
    Math.round(count / seconds).toLocaleString("en"),
    ((cpuSeconds / count) * 1e6).toFixed(1),
    (peakRssBytes / 1e6).toFixed(0),
  ]);
  const widths = COLUMNS.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? "").length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, at) => (at < 2 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(" | ")} |`;
  const rule = `|${widths.map((width, at) => (at < 2 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  const notes = figures.flatMap(({ part, who, note }) => (note === undefined ? [] : [`${part}, ${who}: ${note}`]));
  return [line(COLUMNS), rule, ...rows.map(line), ...notes].join("\n");
}
