import { BarChart, type BarSeriesOption } from "echarts/charts";
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Figure } from "./figure.ts";
import type { Part } from "./options.ts";
import { medians, rateOf } from "./report.ts";

use([BarChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

const WIDTH = 860;
/** Of a bar, and around the bars of a workload. */
const BAR = 20;
const MARGINS = 115;

const TITLES: Partial<Record<Part, string>> = {
  capture: "Capture: the slot's backlog into Kafka",
  apply: "Apply: full topics into a replica",
  "end-to-end": "End to end: the slot's backlog into replicas",
};

/** Of these parts that have workloads, one each: changes a second, and the most memory that a process had. By file name. Pure. */
export function chartsOf(all: readonly Figure[]): ReadonlyMap<string, string> {
  const charts = new Map<string, string>();
  const drained = medians(all).filter(({ workload }) => workload !== undefined);
  for (const [part, title] of Object.entries(TITLES)) {
    const figures = drained.filter((figure) => figure.part === part);
    if (figures.length === 0) continue;
    charts.set(
      `${part}.svg`,
      bars(`${title}, changes/s`, figures, (figure) => Math.round(rateOf(figure))),
    );
    const inMemory = figures.filter(({ peakRssBytes }) => peakRssBytes > 0);
    charts.set(
      `${part}-memory.svg`,
      bars(`${title}, peak RSS in MB`, inMemory, ({ peakRssBytes }) => Math.round(peakRssBytes / 1e6)),
    );
  }
  return charts;
}

function bars(title: string, figures: readonly Figure[], measure: (figure: Figure) => number): string {
  const workloads = [...new Set(figures.map(({ workload }) => workload))];
  const services = [...new Set(figures.map(({ who }) => who))];
  const series = services.map((who): BarSeriesOption => {
    const of = workloads.map((workload) => figures.find((figure) => figure.who === who && figure.workload === workload));
    return {
      type: "bar",
      name: who,
      barWidth: BAR - 4,
      data: of.map((figure) => (figure === undefined ? null : measure(figure))),
      label: { show: true, position: "right", formatter: ({ value }) => Number(value).toLocaleString("en") },
    };
  });
  const chart = init(null, null, {
    renderer: "svg",
    ssr: true,
    width: WIDTH,
    height: workloads.length * services.length * BAR + MARGINS,
  });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: { text: title, left: 10, textStyle: { fontSize: 15 } },
    legend: { bottom: 5 },
    grid: { left: 80, right: 90, top: 40, bottom: 65 },
    xAxis: { type: "value" },
    yAxis: { type: "category", data: workloads, inverse: true },
    series,
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
