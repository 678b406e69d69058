import type { Figure } from "./figure.ts";
import { cells, median, medians, perMillion, rateOf, serversOf } from "./report.ts";
import type { Scaled } from "./scale.ts";

interface ScaleFigure extends Figure {
  readonly scaled: Scaled;
}

const isScaled = (figure: Figure): figure is ScaleFigure => figure.scaled !== undefined;

const COLUMNS = [
  ...["replicas", "tables", "partitions", "round trip ms", "batch limit", "routers", "rows/s", "gain", "CPU s per million rows"],
  ...["of the servers", "peak RSS MB", "waiting", "rows a batch", "ms a batch", "transactions a batch", "join s"],
] as const;

/** Of every run of scale: aligned text, which is a Markdown table as well, of the median ones. */
export function scaleTable(all: readonly Figure[]): string {
  const rows = medians(all)
    .filter(isScaled)
    .map((figure) => {
      const { scaled } = figure;
      return [
        ...[scaled.replicas, scaled.tables, scaled.partitions].map((count) => count.toLocaleString("en")),
        scaled.roundTripMs.toFixed(1),
        ...[scaled.batchRows, scaled.routers, Math.round(rateOf(figure))].map((count) => count.toLocaleString("en")),
        gain(all, figure)?.toFixed(2) ?? "",
        perMillion(figure, figure.cpuSeconds),
        serversOf(figure),
        (figure.peakRssBytes / 1e6).toFixed(0),
        scaled.waiting.toFixed(2),
        Math.round(scaled.rowsPerBatch).toLocaleString("en"),
        scaled.msPerBatch.toFixed(1),
        scaled.transactionsPerBatch.toFixed(2),
        scaled.joinSeconds.toFixed(1),
      ];
    });
  return cells(COLUMNS, rows, 0);
}

/** Everything of a point but its routers. */
const sideOf = ({ replicas, tables, partitions, latencyMs, batchRows }: Scaled): string =>
  [replicas, tables, partitions, latencyMs, batchRows].join();

/** Times the rate of the fewest routers on the same topics: the median over the runs of the ratio within each. Null for the fewest. */
export function gain(all: readonly Figure[], figure: Figure): number | null {
  if (!isScaled(figure)) return null;
  const like = all.filter(isScaled).filter(({ scaled }) => sideOf(scaled) === sideOf(figure.scaled));
  const fewest = Math.min(...like.map(({ scaled }) => scaled.routers));
  if (figure.scaled.routers === fewest) return null;
  const of = (routers: number) => like.filter(({ scaled }) => scaled.routers === routers);
  const ratios = of(figure.scaled.routers).flatMap((many) => {
    const few = of(fewest).find(({ attempt }) => attempt === many.attempt);
    return few === undefined ? [] : [rateOf(many) / rateOf(few)];
  });
  return median(ratios) ?? null;
}
