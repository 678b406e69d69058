import { INSTRUMENTS } from "@cascade/shared/instruments";

/** Every metric, for docs/observability.md. */
export function metricsTable(): string {
  const rows = Object.entries(INSTRUMENTS).map(([name, instrument]) => {
    const labels = "labels" in instrument ? instrument.labels.map((label) => `\`${label}\``).join(", ") : "";
    return `| \`${name}\` | ${instrument.kind} | ${labels} | ${instrument.help} |`;
  });
  return ["| metric | kind | labels | |", "|---|---|---|---|", ...rows].join("\n");
}
