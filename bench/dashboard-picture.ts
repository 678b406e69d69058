import { writeFileSync } from "node:fs";
import { filledIn, type Panel, readDashboards } from "@cascade/local/dashboards.ts";
import { LineChart } from "echarts/charts";
import { GridComponent, LegendComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";

/**
 * Draws a dashboard's panels in their places with what a Prometheus has, for the documentation: no Grafana runs where that is written.
 *
 *   bun bench/dashboard-picture.ts cascade-overview http://127.0.0.1:9090 shard1 docs/images/dashboard-overview.svg [rows of the grid]
 */

use([LineChart, GridComponent, LegendComponent, SVGRenderer]);

const COLUMN = 48;
const ROW = 32;
const GAP = 6;
const MINUTES = 10;
const STEP_SECONDS = 5;
const COLORS = { page: "#111217", panel: "#181b1f", edge: "#2a2d33", text: "#ccccdc", faint: "#8e8e9c", stat: "#73bf69" };
/** Grafana's classic palette. */
const LINES = ["#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0", "#508642", "#cca300"];
const FONT = "Inter, Helvetica, Arial, sans-serif";

interface RangeSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [number, string])[];
}

const [uid = "", url = "", replica = "", file = "", rows = "60"] = process.argv.slice(2);
const board = readDashboards().find((one) => one.uid === uid);
if (board === undefined || file === "")
  throw new Error("usage: bun bench/dashboard-picture.ts UID PROMETHEUS REPLICA FILE [ROWS]");
const panels = board.panels.filter(({ gridPos }) => gridPos.y + gridPos.h <= Number(rows));
const drawn = await Promise.all(panels.map(draw));
const titles = board.rows
  .filter(({ y }) => y < Number(rows))
  .map(
    ({ title, y }) =>
      `<text x="10" y="${y * ROW + 27}" fill="${COLORS.text}" font-size="13" font-weight="600">${escaped(title)}</text>`,
  );
const [width, height] = [24 * COLUMN + GAP, Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW + GAP + 30];
writeFileSync(
  file,
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="${FONT}">
<rect width="100%" height="100%" fill="${COLORS.page}"/>
<text x="12" y="22" fill="${COLORS.text}" font-size="15" font-weight="600">${escaped(board.title)}</text>
<svg y="30">${[...titles, ...drawn].join("\n")}</svg>
</svg>
`,
);

async function draw(panel: Panel): Promise<string> {
  const { x, y, w, h } = panel.gridPos;
  const [left, top, wide, high] = [x * COLUMN + GAP, y * ROW + GAP, w * COLUMN - GAP, h * ROW - GAP];
  return `<svg x="${left}" y="${top}" width="${wide}" height="${high}">
<rect x="0.5" y="0.5" width="${wide - 1}" height="${high - 1}" rx="3" fill="${COLORS.panel}" stroke="${COLORS.edge}"/>
<text x="10" y="19" fill="${COLORS.text}" font-size="12.5" font-weight="500">${escaped(panel.title)}</text>
<svg y="24" width="${wide}" height="${high - 24}">${await content(panel, wide, high - 24)}</svg>
</svg>`;
}

async function content(panel: Panel, wide: number, high: number): Promise<string> {
  const found = (await Promise.all(panel.queries.map(({ expr, legend }) => series(expr, legend)))).flat();
  const empty = found.every(({ values }) => values.length === 0);
  if (empty) return centred(panel.noValue ?? "No data", wide, high, 15, COLORS.faint);
  switch (panel.type) {
    case "stat":
      return centred(formatted(panel.unit, lastOf(found[0])), wide, high, 30, COLORS.stat);
    case "table":
      return tableOf(panel, found);
    default:
      return lines(panel, found, wide, high);
  }
}

interface Named extends RangeSeries {
  readonly name: string;
}

async function series(expr: string, legend: string): Promise<readonly Named[]> {
  const end = Math.floor(Date.now() / 1000 / STEP_SECONDS) * STEP_SECONDS;
  const query = new URLSearchParams({
    query: filledIn(expr, replica),
    start: String(end - MINUTES * 60),
    end: String(end),
    step: String(STEP_SECONDS),
  });
  const answer = (await (await fetch(`${url}/api/v1/query_range?${query}`)).json()) as {
    readonly data: { readonly result: readonly RangeSeries[] };
  };
  return answer.data.result.map(({ metric, values }) => ({
    name: legend.replace(/\{\{(\w+)\}\}/g, (_, label: string) => metric[label] ?? ""),
    metric,
    values,
  }));
}

function lastOf(one: RangeSeries | undefined): number {
  return Number(one?.values.at(-1)?.[1]);
}

function lines({ unit }: Panel, found: readonly Named[], width: number, height: number): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  const axis = { axisLabel: { color: COLORS.faint, fontSize: 10 }, splitLine: { lineStyle: { color: COLORS.edge } } };
  chart.setOption({
    animation: false,
    color: LINES,
    grid: { left: 58, right: 12, top: 8, bottom: 44 },
    legend: {
      bottom: 2,
      type: "plain",
      icon: "roundRect",
      itemHeight: 3,
      itemWidth: 14,
      textStyle: { color: COLORS.text, fontSize: 10 },
    },
    xAxis: { type: "time", ...axis, splitLine: { show: false } },
    yAxis: {
      type: "value",
      min: 0,
      ...axis,
      axisLabel: { ...axis.axisLabel, formatter: (value: number) => formatted(unit, value) },
    },
    series: found.map(({ name, values }) => ({
      type: "line",
      name,
      showSymbol: false,
      lineStyle: { width: 1.2 },
      areaStyle: { opacity: 0.08 },
      data: values.map(([at, value]) => [at * 1000, Number(value)]),
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

function tableOf({ unit }: Panel, found: readonly Named[]): string {
  const hidden = new Set(["__name__"]);
  return found
    .slice(0, 8)
    .map((one, at) => {
      const labels = Object.entries(one.metric).flatMap(([name, value]) => (hidden.has(name) ? [] : [value]));
      const cells = unit === "none" ? labels : [...labels, formatted(unit, lastOf(one))];
      return `<text x="10" y="${20 + at * 20}" fill="${COLORS.text}" font-size="12">${escaped(cells.join("    "))}</text>`;
    })
    .join("");
}

function centred(text: string, wide: number, high: number, size: number, colour: string): string {
  return `<text x="${wide / 2}" y="${high / 2 + size / 3}" text-anchor="middle" font-size="${size}" fill="${colour}">${escaped(text)}</text>`;
}

/** As Grafana writes its units, for those that the dashboards use. */
function formatted(unit: string, value: number): string {
  const scaled = (of: number, base: number, ends: readonly string[]): string => {
    let at = 0;
    let rest = of;
    while (Math.abs(rest) >= base && at < ends.length - 1) {
      rest /= base;
      at++;
    }
    return `${Number(rest.toPrecision(3))}${ends[at]}`;
  };
  switch (unit) {
    case "s":
      return duration(value);
    case "bytes":
      return scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
    case "Bps":
      return scaled(value, 1000, [" B/s", " kB/s", " MB/s", " GB/s"]);
    case "percentunit":
      return `${Number((value * 100).toPrecision(3))}%`;
    case "cps":
      return scaled(value, 1000, [" c/s", "K c/s", "M c/s"]);
    default:
      return scaled(value, 1000, ["", " K", " Mil"]);
  }
}

function duration(seconds: number): string {
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  const [per, name] = (
    [
      [1, "s"],
      [60, "min"],
      [3_600, "hours"],
      [86_400, "days"],
    ] as const
  ).findLast(([of]) => seconds >= of * 2) ?? [1, "s"];
  return `${Number((seconds / per).toPrecision(3))} ${name}`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
