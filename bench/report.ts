import type { Figure } from "./figure.ts";

/** The median run of each part and service, by time. */
export function medians(figures: readonly Figure[]): readonly Figure[] {
  const groups = Map.groupBy(figures, ({ part, workload, who }) => `${part} ${workload} ${who}`);
  return [...groups.values()].map((group) => {
    const sorted = [...group].sort((a, b) => a.seconds - b.seconds);
    return sorted[sorted.length >> 1] as Figure;
  });
}

/** How much of each yardstick was reached: the median over the runs of the ratio within each. Null for what is none. */
export function reached(figures: readonly Figure[], { part, workload, who, against }: Figure): number | null {
  if (against === undefined) return null;
  const rates = (name: string) => figures.filter((one) => one.part === part && one.workload === workload && one.who === name);
  const ratios = rates(who).flatMap((yardstick) => {
    const measured = rates(against).find(({ attempt }) => attempt === yardstick.attempt);
    return measured === undefined ? [] : [rateOf(measured) / rateOf(yardstick)];
  });
  return median(ratios) ?? null;
}

/** Undefined of none. */
export const median = (values: readonly number[]): number | undefined => [...values].sort((a, b) => a - b)[values.length >> 1];

export const rateOf = ({ rows, seconds }: Figure): number => rows / seconds;

export const perMillion = ({ rows }: Figure, cpuSeconds: number): string => ((cpuSeconds / rows) * 1e6).toFixed(1);

/** The servers that did anything to speak of. */
export const serversOf = (figure: Figure): string =>
  Object.entries(figure.servers ?? {})
    .filter(([, seconds]) => seconds >= 0.05)
    .map(([name, seconds]) => `${name} ${perMillion(figure, seconds)}`)
    .join(", ");

const COLUMNS = [
  ...["part", "service", "changes", "seconds", "changes/s", "reached", "CPU s per million changes"],
  ...["of the servers", "peak RSS MB", "lag ms: p50", "p99", "p99.9"],
] as const;

/** Of every run: aligned text, which is a Markdown table as well, of the median ones. */
export function table(all: readonly Figure[]): string {
  const figures = medians(all);
  const rows = figures.map((figure) => [
    figure.workload === undefined ? figure.part : `${figure.part}, ${figure.workload}`,
    figure.who,
    figure.rows.toLocaleString("en"),
    figure.seconds.toFixed(2),
    Math.round(rateOf(figure)).toLocaleString("en"),
    reached(all, figure)?.toFixed(2) ?? "",
    perMillion(figure, figure.cpuSeconds),
    serversOf(figure),
    figure.peakRssBytes === 0 ? "" : (figure.peakRssBytes / 1e6).toFixed(0),
    ...[figure.lagMs?.p50, figure.lagMs?.p99, figure.lagMs?.p999].map((ms) => ms?.toFixed(1) ?? ""),
  ]);
  const notes = figures.flatMap(({ part, who, note }) => (note === undefined ? [] : [`${part}, ${who}: ${note}`]));
  return [cells(COLUMNS, rows, 2), ...notes].join("\n");
}

/** Aligned: the first `texts` columns to the left, numbers to the right. */
export function cells(columns: readonly string[], rows: readonly (readonly string[])[], texts: number): string {
  const widths = columns.map((name, at) => Math.max(name.length, ...rows.map((row) => (row[at] ?? "").length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, at) => (at < texts ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join(" | ")} |`;
  const rule = `|${widths.map((width, at) => (at < texts ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`;
  return [line(columns), rule, ...rows.map(line)].join("\n");
}
