import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./paths.ts";

/** A panel of one of Grafana's dashboards in observability/grafana. */
export interface Panel {
  readonly board: string;
  readonly title: string;
  readonly type: string;
  readonly description: string;
  readonly unit: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  /** What it shows instead of nothing: nothing is what is well, or usual. null: it always shows something. */
  readonly noValue: string | null;
  readonly queries: readonly PanelQuery[];
}

export interface PanelQuery {
  /** PromQL, with Grafana's variables. */
  readonly expr: string;
  readonly legend: string;
}

const folder = join(repository, "observability/grafana/dashboards");

export interface Dashboard {
  readonly file: string;
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
  /** Titles between the panels, and where. */
  readonly rows: readonly { readonly title: string; readonly y: number }[];
}

export function readDashboards(): readonly Dashboard[] {
  return readdirSync(folder).map((file) => {
    const { uid, title, panels } = JSON.parse(readFileSync(join(folder, file), "utf8")) as GrafanaDashboard;
    const rows = panels.filter(({ type }) => type === "row").map((row) => ({ title: row.title, y: row.gridPos.y }));
    return { file, uid, title, rows, panels: panels.filter(({ type }) => type !== "row").map((panel) => panelOf(title, panel)) };
  });
}

/** As Grafana would send it. */
export const filledIn = (expr: string, replica: string): string =>
  expr.replaceAll("$__rate_interval", "20s").replaceAll("$replica", replica);

/** The queries that give no number, of panels that always show something. */
export async function unanswered(
  panels: readonly Panel[],
  replica: string,
  query: (promql: string) => Promise<readonly { readonly value: number }[]>,
): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const { board, title, queries, noValue } of panels)
    for (const { expr } of queries) {
      const found = await query(filledIn(expr, replica));
      const isEmpty = found.every(({ value }) => Number.isNaN(value));
      if (isEmpty && noValue === null) missing.push(`${board}: ${title} (${replica}): ${expr}`);
    }
  return missing;
}

interface GrafanaDashboard {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly GrafanaPanel[];
}

interface GrafanaPanel extends Pick<Panel, "title" | "type" | "gridPos"> {
  readonly description?: string;
  readonly fieldConfig: { readonly defaults: { readonly unit?: string; readonly noValue?: string } };
  readonly targets: readonly { readonly expr: string; readonly legendFormat: string }[];
}

function panelOf(board: string, { title, type, gridPos, description = "", fieldConfig, targets }: GrafanaPanel): Panel {
  const { unit = "", noValue = null } = fieldConfig.defaults ?? {};
  return {
    ...{ board, title, type, gridPos, description, unit, noValue },
    queries: targets.map(({ expr, legendFormat }) => ({ expr, legend: legendFormat })),
  };
}
